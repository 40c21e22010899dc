from hipedge.network.admission import Admission


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_connections_are_capped_in_all_and_for_each_address():
    admission = Admission(5, 3, 100.0)
    assert [admission.enter("a") for _ in range(4)] == [True, True, True, False]
    assert [admission.enter("b") for _ in range(3)] == [True, True, False]
    admission.leave("a")
    assert admission.enter("c")
    assert not admission.enter("a")


def test_an_address_has_so_many_connections_in_a_second_and_others_theirs():
    clock = Clock()
    admission = Admission(100, 100, 2.0, clock)
    assert [admission.enter("a") for _ in range(3)] == [True, True, False]
    assert admission.enter("b")
    clock.now += 0.5
    assert [admission.enter("a") for _ in range(2)] == [True, False]
    clock.now += 60
    assert [admission.enter("a") for _ in range(3)] == [True, True, False]


def test_a_rate_below_one_still_admits():
    clock = Clock()
    admission = Admission(100, 100, 0.1, clock)
    assert [admission.enter("a") for _ in range(2)] == [True, False]
    clock.now += 10
    assert admission.enter("a")


def test_an_address_that_has_left_has_no_more_than_the_burst_when_it_comes_back():
    clock = Clock()
    admission = Admission(100, 100, 1.0, clock)
    for _ in range(1000):
        assert admission.enter("a")
        admission.leave("a")
        assert not admission.enter("a")
        clock.now += 1

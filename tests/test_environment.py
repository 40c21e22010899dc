"""The description of a benchmark's machine, on processors that it does not run on."""

from benchmarks.environment import describe_processor

ARM = """processor\t: 0
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd42
CPU revision\t: 1
"""
X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
"""


def test_a_processor_of_arm_is_described_although_it_has_no_family():
    assert describe_processor(ARM).endswith(", implementer 0x41, part 0xd42")


def test_a_processor_of_x86_is_described_with_family_and_model():
    assert describe_processor(X86).endswith(", family 25, model 17")

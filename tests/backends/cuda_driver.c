/* A stand-in for NVIDIA's driver, libcuda.so.1: the calls that the TensorRT backend makes of it
 * through pycuda, over host memory, for one thread at a time. Tests control it by the functions
 * `standin_*`.
 *
 * What is put on a stream runs when somebody waits for it, and not before: a result that is read
 * too early, or a buffer that is written too early, shows in the scores. Work that is still queued
 * when its memory is freed is counted as a fault; on a GPU it would write into memory of others.
 *
 * Until `standin_start` there is no GPU, which is also what other libraries of the process find,
 * unless the environment names one: STANDIN_GPU.
 */

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
typedef unsigned long long CUdeviceptr;
typedef void (*CUhostFn)(void *);

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    NO_DEVICE = 100,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    CONTEXT_IS_DESTROYED = 709,
    CAPTURE_UNSUPPORTED = 900,
};

enum { MULTIPROCESSOR_COUNT = 16, BLOCKING_SYNC = 1, DRIVER_VERSION = 13020 };
static const size_t GPU_BYTES = (size_t)8 << 30;
enum { MOST_CALLS = 1 << 20, MOST_CONTEXTS = 64 };

/* The numbers that a test reads; `standin_counts` returns them in this order. */
static struct {
    long references, depth, device_memory, host_memory, streams, events, graphs, executables;
    long faults, spinning_waits;
} now;
static size_t device_bytes;

static struct {
    CUresult init;
    char name[64];
    int major, minor, multiprocessors;
} gpu = {.init = NO_DEVICE};

/* The one GPU's primary context; it has no content, only an address. */
static int primary;
static __thread void *contexts[MOST_CONTEXTS];
static __thread int depth;

/* Calls so far, and which of them are to fail. */
static const char *calls[MOST_CALLS];
static long call_count;
static long fail_from = -1, fail_until;
static char fail_name[64];
static long fail_use;

struct work {
    enum { COPY, FUNCTION, MARK } kind;
    void *to;
    const void *from;
    size_t size;
    CUhostFn function;
    void *argument;
    struct event *event;
    long number; /* which recording of the event */
    struct work *next;
};

struct queue {
    struct work *first, **end;
};

struct stream {
    struct queue work;
    struct queue *capture; /* NULL where the stream does not capture */
    struct stream *next;
};

struct event {
    unsigned flags;
    long recorded, reached; /* numbers of recordings */
    long time;
    struct stream *stream;
};

struct block {
    char *start;
    size_t size;
    struct block *next;
};

static struct stream *streams;
static struct block *blocks[2]; /* of the device, of the host */
static struct block *freed;     /* kept, so that a late write into it spoils no other memory */
static long device_time;        /* counts what the GPU has done */

/* Record a call; return whether it is to fail. */
int standin_use(const char *name) {
    long number = call_count;
    if (call_count < MOST_CALLS) calls[call_count++] = name;
    if (fail_name[0] && strcmp(name, fail_name) == 0 && --fail_use == 0) {
        fail_name[0] = 0;
        return 1;
    }
    return fail_from >= 0 && number >= fail_from && number < fail_until;
}

#define USE \
    if (standin_use(__func__)) return ILLEGAL_ADDRESS
#define IN_CONTEXT \
    if (depth == 0) return INVALID_CONTEXT; \
    if (now.references == 0) return CONTEXT_IS_DESTROYED

/* Streams and their work. */

static void append(struct queue *queue, const struct work *work) {
    struct work *copy = malloc(sizeof *copy);
    *copy = *work;
    copy->next = NULL;
    if (queue->first == NULL) queue->end = &queue->first;
    *queue->end = copy;
    queue->end = &copy->next;
}

static void empty(struct queue *queue) {
    while (queue->first != NULL) {
        struct work *work = queue->first;
        queue->first = work->next;
        free(work);
    }
}

static CUresult enqueue(struct stream *stream, const struct work *work) {
    append(stream->capture != NULL ? stream->capture : &stream->work, work);
    return SUCCESS;
}

static CUresult copy(struct stream *stream, void *to, const void *from, size_t size) {
    return enqueue(stream, &(struct work){.kind = COPY, .to = to, .from = from, .size = size});
}

static int is_live(const void *address) {
    for (int side = 0; side < 2; side++)
        for (struct block *block = blocks[side]; block != NULL; block = block->next)
            if ((char *)address >= block->start && (char *)address < block->start + block->size)
                return 1;
    return 0;
}

static void run(struct work *work) {
    device_time++;
    if (work->kind == COPY) {
        if (is_live(work->to) && is_live(work->from))
            memcpy(work->to, work->from, work->size);
        else
            now.faults++;
    } else if (work->kind == FUNCTION) {
        work->function(work->argument);
    } else {
        work->event->reached = work->number;
        work->event->time = device_time;
    }
}

/* Run a stream's work until an event is reached, or all of it. */
static void run_until(struct stream *stream, struct event *event) {
    while (stream->work.first != NULL && (event == NULL || event->reached < event->recorded)) {
        struct work *work = stream->work.first;
        stream->work.first = work->next;
        run(work);
        free(work);
    }
}

/* Memory. */

static CUresult allocate(int on_host, void **address, size_t size) {
    struct block *block = malloc(sizeof *block);
    /* Never zeroed: memory that is read before it is written shows in the scores. */
    *block = (struct block){malloc(size), size, blocks[on_host]};
    memset(block->start, 0xAB, size);
    blocks[on_host] = block;
    *address = block->start;
    device_bytes += on_host ? 0 : size;
    on_host ? now.host_memory++ : now.device_memory++;
    return SUCCESS;
}

static int is_of(const struct block *block, const void *address) {
    return (char *)address >= block->start && (char *)address < block->start + block->size;
}

static CUresult release(int on_host, void *address) {
    for (struct block **link = &blocks[on_host]; *link != NULL; link = &(*link)->next) {
        struct block *block = *link;
        if (block->start != address) continue;
        for (struct stream *stream = streams; stream != NULL; stream = stream->next)
            for (struct work *work = stream->work.first; work != NULL; work = work->next)
                if (work->kind == COPY && (is_of(block, work->to) || is_of(block, work->from)))
                    now.faults++;
        *link = block->next;
        block->next = freed;
        freed = block;
        device_bytes -= on_host ? 0 : block->size;
        on_host ? now.host_memory-- : now.device_memory--;
        return SUCCESS;
    }
    return INVALID_VALUE;
}

/* The driver's interface, as in cuda.h of CUDA 13. */

CUresult cuInit(unsigned flags) {
    USE;
    return gpu.init;
}

CUresult cuDriverGetVersion(int *version) {
    USE;
    *version = DRIVER_VERSION;
    return SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char **text) {
    switch (error) {
    case NO_DEVICE: *text = "no CUDA-capable device is detected"; break;
    case ILLEGAL_ADDRESS: *text = "an illegal memory access was encountered"; break;
    case INVALID_CONTEXT: *text = "invalid device context"; break;
    case 36: *text = "API call requires a newer CUDA driver"; break;
    case 801: *text = "operation not supported"; break;
    case 803: *text = "system has unsupported display driver / cuda driver combination"; break;
    default: *text = "unknown error";
    }
    return SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
    USE;
    *count = 1;
    return SUCCESS;
}

CUresult cuDeviceGet(int *device, int ordinal) {
    USE;
    *device = ordinal;
    return ordinal == 0 ? SUCCESS : NO_DEVICE;
}

CUresult cuDeviceGetName(char *name, int size, int device) {
    USE;
    strncpy(name, gpu.name, size);
    return SUCCESS;
}

CUresult cuDeviceComputeCapability(int *major, int *minor, int device) {
    USE;
    *major = gpu.major, *minor = gpu.minor;
    return SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, int attribute, int device) {
    USE;
    *value = gpu.multiprocessors;
    return attribute == MULTIPROCESSOR_COUNT ? SUCCESS : INVALID_VALUE;
}

CUresult cuDevicePrimaryCtxRetain(void **context, int device) {
    USE;
    now.references++;
    *context = &primary;
    return SUCCESS;
}

/* "This method does not pop the context from stack in any circumstances" (CUDA driver API). */
CUresult cuDevicePrimaryCtxRelease_v2(int device) {
    USE;
    if (now.references == 0) return INVALID_CONTEXT;
    now.references--;
    return SUCCESS;
}

CUresult cuCtxPushCurrent_v2(void *context) {
    USE;
    if (context != &primary || depth == MOST_CONTEXTS) return INVALID_VALUE;
    contexts[depth++] = context;
    now.depth++;
    return SUCCESS;
}

CUresult cuCtxPopCurrent_v2(void **context) {
    USE;
    if (depth == 0) return INVALID_CONTEXT;
    *context = contexts[--depth];
    now.depth--;
    return SUCCESS;
}

CUresult cuCtxGetCurrent(void **context) {
    USE;
    *context = depth == 0 ? NULL : contexts[depth - 1];
    return SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size) {
    USE;
    IN_CONTEXT;
    return allocate(0, (void **)address, size);
}

CUresult cuMemFree_v2(CUdeviceptr address) {
    USE;
    IN_CONTEXT;
    return release(0, (void *)address);
}

CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
    USE;
    IN_CONTEXT;
    *free = GPU_BYTES - device_bytes, *total = GPU_BYTES;
    return SUCCESS;
}

CUresult cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    USE;
    IN_CONTEXT;
    return allocate(1, address, size);
}

CUresult cuMemFreeHost(void *address) {
    USE;
    IN_CONTEXT;
    return release(1, address);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size,
                              struct stream *stream) {
    USE;
    IN_CONTEXT;
    return copy(stream, (void *)to, from, size);
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, struct stream *stream) {
    USE;
    IN_CONTEXT;
    return copy(stream, to, (void *)from, size);
}

CUresult cuStreamCreate(struct stream **stream, unsigned flags) {
    USE;
    IN_CONTEXT;
    *stream = calloc(1, sizeof **stream);
    (*stream)->next = streams;
    streams = *stream;
    now.streams++;
    return SUCCESS;
}

/* The GPU completes the work of a stream that is destroyed. */
CUresult cuStreamDestroy_v2(struct stream *stream) {
    USE;
    IN_CONTEXT;
    run_until(stream, NULL);
    for (struct stream **link = &streams; *link != NULL; link = &(*link)->next)
        if (*link == stream) {
            *link = stream->next;
            free(stream);
            now.streams--;
            return SUCCESS;
        }
    return INVALID_HANDLE;
}

CUresult cuStreamSynchronize(struct stream *stream) {
    USE;
    IN_CONTEXT;
    if (stream->capture != NULL) return CAPTURE_UNSUPPORTED;
    run_until(stream, NULL);
    return SUCCESS;
}

CUresult cuLaunchHostFunc(struct stream *stream, CUhostFn function, void *argument) {
    USE;
    IN_CONTEXT;
    struct work work = {.kind = FUNCTION, .function = function, .argument = argument};
    return enqueue(stream, &work);
}

CUresult cuEventCreate(struct event **event, unsigned flags) {
    USE;
    IN_CONTEXT;
    *event = calloc(1, sizeof **event);
    (*event)->flags = flags;
    now.events++;
    return SUCCESS;
}

CUresult cuEventDestroy_v2(struct event *event) {
    USE;
    IN_CONTEXT;
    if (event->stream != NULL && event->reached < event->recorded) run_until(event->stream, event);
    free(event);
    now.events--;
    return SUCCESS;
}

CUresult cuEventRecord(struct event *event, struct stream *stream) {
    USE;
    IN_CONTEXT;
    event->stream = stream;
    struct work work = {.kind = MARK, .event = event, .number = ++event->recorded};
    return enqueue(stream, &work);
}

CUresult cuEventSynchronize(struct event *event) {
    USE;
    IN_CONTEXT;
    if (!(event->flags & BLOCKING_SYNC)) now.spinning_waits++;
    if (event->stream != NULL) run_until(event->stream, event);
    return SUCCESS;
}

/* In milliseconds; the GPU takes one for each copy, computation and recording. */
CUresult cuEventElapsedTime_v2(float *milliseconds, struct event *start, struct event *end) {
    USE;
    if (start->recorded == 0 || end->recorded == 0) return INVALID_HANDLE;
    if (start->reached < start->recorded || end->reached < end->recorded) return NOT_READY;
    *milliseconds = end->time - start->time;
    return SUCCESS;
}

/* Graphs: of a stream's work, repeated by each launch. */

CUresult cuStreamBeginCapture_v2(struct stream *stream, int mode) {
    USE;
    if (stream->capture != NULL) return CAPTURE_UNSUPPORTED;
    stream->capture = calloc(1, sizeof *stream->capture);
    return SUCCESS;
}

CUresult cuStreamEndCapture(struct stream *stream, struct queue **graph) {
    int fails = standin_use(__func__);
    *graph = stream->capture;
    stream->capture = NULL;
    if (!fails) {
        now.graphs++;
        return SUCCESS;
    }
    empty(*graph);
    free(*graph);
    *graph = NULL;
    return ILLEGAL_ADDRESS;
}

CUresult cuGraphDestroy(struct queue *graph) {
    USE;
    empty(graph);
    free(graph);
    now.graphs--;
    return SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(struct queue **executable, struct queue *graph,
                                     unsigned long long flags) {
    USE;
    *executable = calloc(1, sizeof **executable);
    for (struct work *work = graph->first; work != NULL; work = work->next)
        append(*executable, work);
    now.executables++;
    return SUCCESS;
}

CUresult cuGraphExecDestroy(struct queue *executable) {
    USE;
    empty(executable);
    free(executable);
    now.executables--;
    return SUCCESS;
}

CUresult cuGraphLaunch(struct queue *executable, struct stream *stream) {
    USE;
    IN_CONTEXT;
    for (struct work *work = executable->first; work != NULL; work = work->next)
        enqueue(stream, work);
    return SUCCESS;
}

/* Kernels: there is one, and it breaks the context for ever. */

CUresult cuModuleLoadDataEx(void **module, const void *image, unsigned count, int *options,
                            void **values) {
    USE;
    IN_CONTEXT;
    *module = &primary;
    return SUCCESS;
}

CUresult cuModuleGetFunction(void **function, void *module, const char *name) {
    USE;
    *function = &primary;
    return SUCCESS;
}

CUresult cuFuncSetBlockShape(void *function, int x, int y, int z) {
    USE;
    return SUCCESS;
}

CUresult cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                        struct stream *stream, void **parameters, void **extra) {
    USE;
    IN_CONTEXT;
    fail_from = call_count;
    fail_until = 1L << 40;
    return SUCCESS;
}

/* For tests. */

/* Begin anew, with a GPU for which cuInit returns `init`. */
void standin_start(CUresult init, const char *name, int major, int minor, int multiprocessors) {
    memset(&now, 0, sizeof now);
    gpu.init = init, gpu.major = major, gpu.minor = minor;
    gpu.multiprocessors = multiprocessors;
    strncpy(gpu.name, name, sizeof gpu.name - 1);
    call_count = 0, fail_from = -1, fail_name[0] = 0;
    /* What a test before this one has left is never used again, and never freed. */
    streams = NULL, blocks[0] = blocks[1] = NULL, depth = 0, device_bytes = 0;
    while (freed != NULL) {
        struct block *block = freed;
        freed = block->next;
        free(block->start);
        free(block);
    }
}

/* Let all calls fail from the `after`-th one from now until the `until`-th. */
void standin_fail(long after, long until) {
    fail_from = call_count + after;
    fail_until = call_count + until;
}

/* Let the `use`-th call of this name from now fail, counted from 1. */
void standin_fail_use(const char *name, long use) {
    strncpy(fail_name, name, sizeof fail_name - 1);
    fail_use = use;
}

void standin_heal(void) {
    fail_from = -1;
    fail_name[0] = 0;
}

__attribute__((constructor)) static void start_from_environment(void) {
    const char *name = getenv("STANDIN_GPU");
    if (name != NULL) standin_start(SUCCESS, name, 9, 0, 132); /* as Hopper, without RTX */
}

long standin_call_count(void) { return call_count; }
const char *standin_call(long number) { return calls[number]; }
int standin_depth(void) { return depth; }
const long *standin_counts(void) { return (const long *)&now; }

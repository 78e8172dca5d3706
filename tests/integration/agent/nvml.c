/* The part of NVIDIA's management library that Veil calls, for machines without a GPU. What it says is set by the environment. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; } process_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;

enum { OK = 0, DRIVER_NOT_LOADED = 9, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15 };

static int says(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}
static int number(void *device) { return (int)(long)device - 1; }

int nvmlInitWithFlags(unsigned int flags) { return says("NVML_INIT", OK); }
int nvmlInit_v2(void) { return says("NVML_INIT", OK); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "an error"; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = says("NVML_COUNT", 2); return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) { *device = (void *)(long)(index + 1); return OK; }
int nvmlDeviceGetUUID(void *device, char *text, unsigned int length) {
    snprintf(text, length, "GPU-0000000%d", number(device));
    return number(device) == says("NVML_LOST", -1) ? GPU_IS_LOST : OK;
}
int nvmlDeviceGetName(void *device, char *text, unsigned int length) { snprintf(text, length, "Test %d", number(device)); return OK; }
int nvmlDeviceGetMinorNumber(void *device, unsigned int *minor) { *minor = number(device) + 4; return OK; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    memory->total = 16ull << 30; memory->used = (unsigned long long)number(device) << 30; memory->free = memory->total - memory->used;
    return OK;
}
int nvmlDeviceGetUtilizationRates(void *device, utilization_t *rates) {
    rates->gpu = 37; rates->memory = 5;
    return number(device) == 1 ? NOT_SUPPORTED : OK;
}
static int processes(void *device, unsigned int *count, process_t *list) {
    unsigned int room = *count;
    *count = number(device) == 0 ? 1 : 0;
    if (room < *count) return INSUFFICIENT_SIZE;
    if (*count) { memset(list, 0, sizeof *list); list->pid = says("NVML_PID", 1); }
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned int *count, process_t *list) { return processes(device, count, list); }
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *count, process_t *list) { return processes(device, count, list); }

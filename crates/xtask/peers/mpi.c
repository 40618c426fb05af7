// Times collectives of an MPI as `mslite bench collective` times ours, and prints lines that it reads.
// Usage: mpirun -n N mpi OPS SIZES BATCHES MILLISECONDS, with lists separated by commas.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ITERATIONS = 1000000 };

static int rank, ranks;
static float *send, *receive;

static void barrier(int block) {
    (void)block;
    MPI_Barrier(MPI_COMM_WORLD);
}

static void all_reduce(int block) {
    MPI_Allreduce(send, receive, block, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

static void all_gather(int block) {
    MPI_Allgather(send, block, MPI_FLOAT, receive, block, MPI_FLOAT, MPI_COMM_WORLD);
}

static void reduce_scatter(int block) {
    MPI_Reduce_scatter_block(send, receive, block, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

static void broadcast(int block) {
    MPI_Bcast(rank == 0 ? send : receive, block, MPI_FLOAT, 0, MPI_COMM_WORLD);
}

static void reduce(int block) {
    MPI_Reduce(send, receive, block, MPI_FLOAT, MPI_SUM, 0, MPI_COMM_WORLD);
}

static void gather(int block) {
    MPI_Gather(send, block, MPI_FLOAT, receive, block, MPI_FLOAT, 0, MPI_COMM_WORLD);
}

static void scatter(int block) {
    MPI_Scatter(send, block, MPI_FLOAT, receive, block, MPI_FLOAT, 0, MPI_COMM_WORLD);
}

static void all_to_all(int block) {
    MPI_Alltoall(send, block, MPI_FLOAT, receive, block, MPI_FLOAT, MPI_COMM_WORLD);
}

static void ping_pong(int block) {
    if (rank == 0) {
        MPI_Send(send, block, MPI_FLOAT, 1, 0, MPI_COMM_WORLD);
        MPI_Recv(receive, block, MPI_FLOAT, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else if (rank == 1) {
        MPI_Recv(receive, block, MPI_FLOAT, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Send(send, block, MPI_FLOAT, 0, 0, MPI_COMM_WORLD);
    }
}

// `is_split`: the size is that of a block for each rank. `per_round`: operations that a call makes.
static const struct operation {
    const char *name;
    void (*run)(int block);
    int is_split, per_round;
} OPERATIONS[] = {
    {"barrier", barrier, 0, 1},       {"all_reduce", all_reduce, 0, 1}, {"all_gather", all_gather, 1, 1},
    {"broadcast", broadcast, 0, 1},   {"reduce", reduce, 0, 1},         {"reduce_scatter", reduce_scatter, 1, 1},
    {"gather", gather, 1, 1},         {"scatter", scatter, 1, 1},       {"all_to_all", all_to_all, 1, 1},
    {"ping_pong", ping_pong, 0, 2},
};

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Microseconds of an operation in one batch: min, avg, median and max over the ranks that take part.
static void batch(const struct operation *operation, int block, int iterations, double sample[4]) {
    MPI_Barrier(MPI_COMM_WORLD);
    double start = MPI_Wtime();
    for (int i = 0; i < iterations; i++) operation->run(block);
    double us = (MPI_Wtime() - start) / iterations / operation->per_round * 1e6;
    double all[ranks];
    int count = operation->run == ping_pong && ranks > 2 ? 2 : ranks;
    MPI_Allgather(&us, 1, MPI_DOUBLE, all, 1, MPI_DOUBLE, MPI_COMM_WORLD);
    qsort(all, count, sizeof *all, by_value);
    double sum = 0;
    for (int i = 0; i < count; i++) sum += all[i];
    sample[0] = all[0];
    sample[1] = sum / count;
    sample[2] = (all[(count - 1) / 2] + all[count / 2]) / 2;
    sample[3] = all[count - 1];
}

// The fastest of a few batches counts: what else the machine does only ever adds.
static int calibrate(const struct operation *operation, int block, double target) {
    double sample[4];
    batch(operation, block, 1, sample);
    for (int iterations = 1;;) {
        double least = 1e300;
        for (int i = 0; i < 3; i++) {
            batch(operation, block, iterations, sample);
            least = sample[3] < least ? sample[3] : least;
        }
        double fitting = target / (least * operation->per_round + 1e-3);
        fitting = fitting < 1 ? 1 : fitting > MAX_ITERATIONS ? MAX_ITERATIONS : fitting;
        if (fitting <= 2.0 * iterations) return (int)fitting;
        iterations = fitting < 8.0 * iterations ? (int)fitting : 8 * iterations;
    }
}

static void measure(const struct operation *operation, size_t bytes, int batches, double target) {
    size_t block = bytes / sizeof(float) / (operation->is_split ? ranks : 1);
    if (operation->run != barrier && block == 0) return;
    if (operation->run == ping_pong && ranks < 2) return;
    int iterations = calibrate(operation, (int)block, target);
    double times[batches], samples[batches][4];
    for (int i = 0; i < batches; i++) {
        batch(operation, (int)block, iterations, samples[i]);
        times[i] = samples[i][3];
    }
    if (rank != 0) return;
    qsort(times, batches, sizeof *times, by_value);
    printf("{\"op\": \"%s\", \"ranks\": %d, \"bytes\": %zu, \"iterations\": %d, \"us\": %g, \"samples\": [",
           operation->name, ranks, block * sizeof(float) * (operation->is_split ? ranks : 1), iterations,
           times[batches / 2]);
    for (int i = 0; i < batches; i++)
        printf("%s[%g, %g, %g, %g]", i ? ", " : "", samples[i][0], samples[i][1], samples[i][2], samples[i][3]);
    printf("]}\n");
    fflush(stdout);
}

// Whether a name stands in a list.
static int is_in(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, name, length) && (at[length] == ',' || at[length] == 0)) return 1;
    return 0;
}

int main(int count, char **words) {
    MPI_Init(&count, &words);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (count != 5) {
        if (rank == 0) fprintf(stderr, "usage: mpi OPS SIZES BATCHES MILLISECONDS\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    size_t largest = 0;
    for (char *at = words[2]; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        size_t bytes = strtoull(at, NULL, 10);
        largest = bytes > largest ? bytes : largest;
    }
    send = calloc(1, largest + sizeof(float));
    receive = calloc(1, largest + sizeof(float));
    if (!send || !receive) MPI_Abort(MPI_COMM_WORLD, 3);
    for (size_t i = 0; i < largest / sizeof(float); i++) send[i] = (float)(rank + 1);
    int batches = atoi(words[3]) > 0 ? atoi(words[3]) : 1;
    double target = atof(words[4]) * 1e3;
    for (size_t o = 0; o < sizeof OPERATIONS / sizeof *OPERATIONS; o++) {
        if (!is_in(words[1], OPERATIONS[o].name)) continue;
        for (char *at = words[2]; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
            measure(&OPERATIONS[o], OPERATIONS[o].run == barrier ? 0 : strtoull(at, NULL, 10), batches, target);
            if (OPERATIONS[o].run == barrier) break;
        }
    }
    MPI_Finalize();
    return 0;
}

/* Steps of RMSprop and Adam, each in one pass over a parameter; training/optimisers.py says when. */

#include <math.h>

#include "lanes.h"

/* Threads share a parameter's `number` floats in blocks from `from` to `to`. */
#define FOR_BLOCKS(from, to)                                                                             \
    _Pragma("omp parallel for num_threads(threads)") for (long from = 0; from < number; from += 1 << 14) \
        for (long to = from + (1 << 14) < number ? from + (1 << 14) : number, once = 1; once; once = 0)

FOR_THIS_PROCESSOR
static void rmsprop(
    float *restrict parameter, float *restrict gradient, float *restrict square, long from, long to, float rate,
    float alpha, float eps, float decay) {
    for (long i = from; i < to; i++) {
        float g = gradient[i] + decay * parameter[i];
        square[i] = alpha * square[i] + (1 - alpha) * g * g;
        parameter[i] -= rate * g / (sqrtf(square[i]) + eps);
    }
}

/* square: the running mean of squared gradients, decay: of weights (L2). */
void tunit_rmsprop(
    float *parameter, float *gradient, float *square, long number, float rate, float alpha, float eps, float decay,
    long threads) {
    FOR_BLOCKS(from, to) rmsprop(parameter, gradient, square, from, to, rate, alpha, eps, decay);
}

FOR_THIS_PROCESSOR
static void adam(
    float *restrict parameter, float *restrict gradient, float *restrict mean, float *restrict square, long from,
    long to, float rate, float root, float beta, float gamma, float eps, float decay) {
    for (long i = from; i < to; i++) {
        float g = gradient[i] + decay * parameter[i];
        mean[i] += (1 - beta) * (g - mean[i]);
        square[i] = gamma * square[i] + (1 - gamma) * g * g;
        parameter[i] -= rate * mean[i] / (sqrtf(square[i]) / root + eps);
    }
}

/* mean and square: the running means of gradients and of their squares, by beta and gamma; both count as if begun with
   the first gradient, for which rate and root are those of this step. */
void tunit_adam(
    float *parameter, float *gradient, float *mean, float *square, long number, float rate, float root, float beta,
    float gamma, float eps, float decay, long threads) {
    FOR_BLOCKS(from, to) adam(parameter, gradient, mean, square, from, to, rate, root, beta, gamma, eps, decay);
}

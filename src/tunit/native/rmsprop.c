/* A step of RMSprop in one pass over a parameter; training/rmsprop.py says when. */

#include <math.h>

#include "lanes.h"

FOR_THIS_PROCESSOR
static void update(
    float *restrict parameter, float *restrict gradient, float *restrict square, long from, long to, float rate,
    float alpha, float eps, float decay) {
    for (long i = from; i < to; i++) {
        float g = gradient[i] + decay * parameter[i];
        square[i] = alpha * square[i] + (1 - alpha) * g * g;
        parameter[i] -= rate * g / (sqrtf(square[i]) + eps);
    }
}

/* square: the running mean of squared gradients, decay: of weights (L2). All of `number` floats. */
void tunit_rmsprop(
    float *parameter, float *gradient, float *square, long number, float rate, float alpha, float eps, float decay,
    long threads) {
    const long at_once = 1 << 14;
#pragma omp parallel for num_threads(threads)
    for (long from = 0; from < number; from += at_once)
        update(
            parameter, gradient, square, from, from + at_once < number ? from + at_once : number, rate, alpha, eps,
            decay);
}

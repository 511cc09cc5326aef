/* Instance normalisation with a scale and a shift for each picture (AdaIN), and its gradients.

   Pictures are (n, pixels, c); scales, shifts, means and sums (n, c); all float32 and contiguous, c a multiple of LANES.
   A thread takes LANES channels of a picture and goes over their pixels while they lie in the cache. */

#include <math.h>

#include "lanes.h"

FOR_THIS_PROCESSOR
static void forward(
    float *x, float *y, float *mean, float *inverse, float *scale, float *shift, long pixels, long c, float eps) {
    lanes sum = {0}, square = {0}, root;
    FOR_TERMS(first, last) {
        lanes term = {0};
        for (long i = first; i < last; i++) term += AT(x + i * c);
        sum += term;
    }
    lanes middle = sum / (float)pixels;
    FOR_TERMS(first, last) {
        lanes term = {0};
        for (long i = first; i < last; i++) term += (AT(x + i * c) - middle) * (AT(x + i * c) - middle);
        square += term;
    }
    for (int l = 0; l < LANES; l++) root[l] = 1 / sqrtf(square[l] / (float)pixels + eps);
    AT(mean) = middle, AT(inverse) = root;
    lanes a = AT(scale) * root, b = AT(shift);
    FOR_PIXELS(i) AT(y + i * c) = a * (AT(x + i * c) - middle) + b;
}

/* y = scale (x - mean) inverse + shift; mean and inverse, that of the standard deviation, are kept for the gradients. */
void tunit_instance_norm(
    float *x, float *y, float *mean, float *inverse, float *scale, float *shift, long n, long pixels, long c, float eps,
    long threads) {
    FOR_LANES_OF_PICTURES(b, k) {
        long at = b * pixels * c + k, of = b * c + k;
        forward(x + at, y + at, mean + of, inverse + of, scale + of, shift + of, pixels, c, eps);
    }
}

FOR_THIS_PROCESSOR
static void backward(
    float *x, float *dy, float *mean, float *inverse, float *scale, float *dx, float *of_scale, float *of_shift,
    long pixels, long c) {
    lanes middle = AT(mean), root = AT(inverse), sum = {0}, product = {0};
    FOR_TERMS(first, last) {
        lanes some = {0}, some_products = {0};
        for (long i = first; i < last; i++) {
            lanes d = AT(dy + i * c);
            some += d, some_products += d * (AT(x + i * c) - middle);
        }
        sum += some, product += some_products;
    }
    product *= root;
    AT(of_scale) = product, AT(of_shift) = sum;
    lanes a = AT(scale) * root, of_mean = sum / (float)pixels, of_normal = root * product / (float)pixels;
    FOR_PIXELS(i) AT(dx + i * c) = a * (AT(dy + i * c) - of_mean - (AT(x + i * c) - middle) * of_normal);
}

/* The gradients of x, scale and shift. */
void tunit_instance_norm_backward(
    float *x, float *dy, float *mean, float *inverse, float *scale, float *dx, float *of_scale, float *of_shift, long n,
    long pixels, long c, long threads) {
    FOR_LANES_OF_PICTURES(b, k) {
        long at = b * pixels * c + k, of = b * c + k;
        backward(
            x + at, dy + at, mean + of, inverse + of, scale + of, dx + at, of_scale + of, of_shift + of, pixels, c);
    }
}

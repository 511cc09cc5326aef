/* Instance normalisation with a scale and a shift for each picture (AdaIN), with ReLU or not, and its gradients.

   Pictures are (n, pixels, c); scales, shifts, means and sums (n, c); all float32 and contiguous, c a multiple of
   LANES. A thread takes LANES channels of a picture and goes over their pixels while they lie in the cache. */

#include <math.h>

#include "lanes.h"

FOR_EACH_CPU
static void forward(
    float *x, float *y, float *mean, float *inverse, float *scale, float *shift, long relu, long pixels, long c,
    float eps) {
    lanes sum[PARTS] = {0}, square[PARTS] = {0}, middle[PARTS], a[PARTS], b[PARTS];
    FOR_TERMS(first, last) {
        lanes term[PARTS] = {0};
        for (long i = first; i < last; i++) EACH(p) term[p] += PART(x + i * c, p);
        EACH(p) sum[p] += term[p];
    }
    EACH(p) middle[p] = sum[p] / (float)pixels;
    FOR_TERMS(first, last) {
        lanes term[PARTS] = {0};
        for (long i = first; i < last; i++) EACH(p) {
            lanes v = PART(x + i * c, p) - middle[p];
            term[p] += v * v;
        }
        EACH(p) square[p] += term[p];
    }
    EACH(p) {
        for (int l = 0; l < WIDTH; l++) inverse[WIDTH * p + l] = 1 / sqrtf(square[p][l] / (float)pixels + eps);
        PART(mean, p) = middle[p];
        a[p] = PART(scale, p) * PART(inverse, p), b[p] = PART(shift, p);
    }
    FOR_PIXELS(i) EACH(p) {
        lanes v = a[p] * (PART(x + i * c, p) - middle[p]) + b[p];
        PART(y + i * c, p) = relu ? where_positive(v, v) : v;
    }
}

/* y = scale (x - mean) inverse + shift, or with `relu` what of it is above 0; mean and inverse, that of the standard
   deviation, are kept for the gradients. */
long tunit_instance_norm(
    float *x, float *y, float *mean, float *inverse, float *scale, float *shift, long relu, long n, long pixels, long c,
    float eps, long threads) {
    FOR_LANES_OF_PICTURES(b, k) {
        long at = b * pixels * c + k, of = b * c + k;
        forward(x + at, y + at, mean + of, inverse + of, scale + of, shift + of, relu, pixels, c, eps);
    }
    return 0;
}

FOR_EACH_CPU
static void backward(
    float *x, float *dy, float *mean, float *inverse, float *scale, float *shift, long relu, float *dx, float *of_scale,
    float *of_shift, long pixels, long c) {
    lanes middle[PARTS], sum[PARTS] = {0}, product[PARTS] = {0}, a[PARTS], b[PARTS], of_mean[PARTS], of_normal[PARTS];
    EACH(p) middle[p] = PART(mean, p), a[p] = PART(scale, p) * PART(inverse, p), b[p] = PART(shift, p);
    FOR_TERMS(first, last) {
        lanes some[PARTS] = {0}, some_products[PARTS] = {0};
        for (long i = first; i < last; i++) EACH(p) {
            lanes v = PART(x + i * c, p) - middle[p], d = PART(dy + i * c, p);
            if (relu) d = where_positive(a[p] * v + b[p], d);
            some[p] += d, some_products[p] += d * v;
        }
        EACH(p) sum[p] += some[p], product[p] += some_products[p];
    }
    EACH(p) {
        lanes root = PART(inverse, p);
        product[p] *= root;
        PART(of_scale, p) = product[p], PART(of_shift, p) = sum[p];
        of_mean[p] = sum[p] / (float)pixels, of_normal[p] = root * product[p] / (float)pixels;
    }
    FOR_PIXELS(i) EACH(p) {
        lanes v = PART(x + i * c, p) - middle[p], d = PART(dy + i * c, p);
        if (relu) d = where_positive(a[p] * v + b[p], d);
        PART(dx + i * c, p) = a[p] * (d - of_mean[p] - v * of_normal[p]);
    }
}

/* The gradients of x, scale and shift. */
long tunit_instance_norm_backward(
    float *x, float *dy, float *mean, float *inverse, float *scale, float *shift, float *dx, float *of_scale,
    float *of_shift, long relu, long n, long pixels, long c, long threads) {
    FOR_LANES_OF_PICTURES(b, k) {
        long at = b * pixels * c + k, of = b * c + k;
        backward(
            x + at, dy + at, mean + of, inverse + of, scale + of, shift + of, relu, dx + at, of_scale + of,
            of_shift + of, pixels, c);
    }
    return 0;
}

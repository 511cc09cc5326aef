/* Filter response normalisation and its gradients; filter_response.py says what they are.

   Pictures are (n, pixels, c), scales and sums (n, c), parameters (c); all float32 and contiguous, c a multiple of
   LANES. A thread takes LANES channels of a picture, sums over its pixels, and goes over them once more while they
   lie in the cache. Names are those of the equations: x and y, and with d before them their gradients; nu is the
   inverse of the root of the mean square, m the part of dy that the threshold lets through. */

#include <math.h>

#include "lanes.h"

typedef int masks __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* v where the threshold lets u through, else 0. */
INLINE lanes passed(lanes u, lanes v) {
    return (lanes)((masks)(u > 0) & (masks)v);
}

FOR_THIS_PROCESSOR
static void forward(
    float *x, float *y, float *nu, float *gamma, float *shift, float *tau, long pixels, long c, float eps) {
    lanes square = {0}, inverse;
    FOR_TERMS(first, last) {
        lanes term = {0};
        for (long i = first; i < last; i++) term += AT(x + i * c) * AT(x + i * c);
        square += term;
    }
    for (int l = 0; l < LANES; l++) inverse[l] = 1 / sqrtf(square[l] / (float)pixels + eps);
    AT(nu) = inverse;
    lanes scale = AT(gamma) * inverse, b = AT(shift), t = AT(tau);
    FOR_PIXELS(i) {
        lanes u = scale * AT(x + i * c) + b;
        AT(y + i * c) = passed(u, u) + t;
    }
}

/* y = max(gamma nu x + shift, 0) + tau; nu is kept for the gradients. */
void tunit_frn(
    float *x, float *y, float *nu, float *gamma, float *shift, float *tau, long n, long pixels, long c, float eps,
    long threads) {
    FOR_LANES_OF_PICTURES(b, k) {
        long at = b * pixels * c + k;
        forward(x + at, y + at, nu + b * c + k, gamma + k, shift + k, tau + k, pixels, c, eps);
    }
}

FOR_THIS_PROCESSOR
static void backward(
    float *x, float *dy, float *nu, float *gamma, float *shift, float *dx, float *sums, long pixels, long c, long all) {
    lanes inverse = AT(nu), scale = AT(gamma) * inverse, b = AT(shift), sum_m = {0}, sum_mx = {0}, sum_dy = {0};
    FOR_TERMS(first, last) {
        lanes some_m = {0}, some_mx = {0}, some_dy = {0};
        for (long i = first; i < last; i++) {
            lanes v = AT(x + i * c), d = AT(dy + i * c), m = passed(scale * v + b, d);
            some_m += m, some_mx += m * v, some_dy += d;
        }
        sum_m += some_m, sum_mx += some_mx, sum_dy += some_dy;
    }
    AT(sums) = inverse * sum_mx, AT(sums + all) = sum_m, AT(sums + 2 * all) = sum_dy - sum_m;
    lanes common = scale * inverse * inverse * sum_mx / (float)pixels;
    FOR_PIXELS(i) {
        lanes v = AT(x + i * c);
        AT(dx + i * c) = scale * passed(scale * v + b, AT(dy + i * c)) - common * v;
    }
}

/* dx = gamma nu m - gamma nu^3 / pixels (sum of m x) x. sums (3, n, c): what each picture gives to the gradients of
   gamma, shift and tau. */
void tunit_frn_backward(
    float *x, float *dy, float *nu, float *gamma, float *shift, float *dx, float *sums, long n, long pixels, long c,
    long threads) {
    FOR_LANES_OF_PICTURES(b, k) {
        long at = b * pixels * c + k, of = b * c + k;
        backward(x + at, dy + at, nu + of, gamma + k, shift + k, dx + at, sums + of, pixels, c, n * c);
    }
}

FOR_THIS_PROCESSOR
static void backward_twice(
    float *x, float *dy, float *ddx, float *nu, float *gamma, float *shift, float *of_x, float *of_dy, float *of_gamma,
    long pixels, long c) {
    lanes inverse = AT(nu), scale = AT(gamma) * inverse, b = AT(shift), sum_hm = {0}, sum_hx = {0}, sum_mx = {0};
    FOR_TERMS(first, last) {
        lanes some_hm = {0}, some_hx = {0}, some_mx = {0};
        for (long i = first; i < last; i++) {
            lanes v = AT(x + i * c), h = AT(ddx + i * c), m = passed(scale * v + b, AT(dy + i * c));
            some_hm += h * m, some_hx += h * v, some_mx += m * v;
        }
        sum_hm += some_hm, sum_hx += some_hx, sum_mx += some_mx;
    }
    lanes square = inverse * inverse / (float)pixels, common = scale * square;
    AT(of_gamma) = inverse * (sum_hm - square * sum_hx * sum_mx);
    lanes through_nu = common * (sum_hm - 3 * square * sum_hx * sum_mx);
    FOR_PIXELS(i) {
        lanes v = AT(x + i * c), h = AT(ddx + i * c), u = scale * v + b, m = passed(u, AT(dy + i * c));
        AT(of_dy + i * c) = passed(u, scale * h - common * sum_hx * v);
        AT(of_x + i * c) = -common * (sum_hx * m + sum_mx * h) - through_nu * v;
    }
}

/* The gradients of (sum of ddx dx), for h = ddx; of_gamma (n, c) is what each picture gives to that of gamma. */
void tunit_frn_backward_twice(
    float *x, float *dy, float *ddx, float *nu, float *gamma, float *shift, float *of_x, float *of_dy, float *of_gamma,
    long n, long pixels, long c, long threads) {
    FOR_LANES_OF_PICTURES(b, k) {
        long at = b * pixels * c + k, of = b * c + k;
        backward_twice(
            x + at, dy + at, ddx + at, nu + of, gamma + k, shift + k, of_x + at, of_dy + at, of_gamma + of, pixels, c);
    }
}

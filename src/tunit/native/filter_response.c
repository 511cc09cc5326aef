/* Filter response normalisation and its gradients; networks/filter_response.py defines them.

   Pictures are (n, pixels, c), scales and sums (n, c), parameters (c); all float32 and contiguous, c a multiple of
   LANES. A thread takes LANES channels of a picture. It reads the pixels twice: first to sum over them, then, while
   they are still in the cache, to compute the result. Names are those of the formulas above each function: x and y;
   dx and dy, their gradients; nu, 1 / root of the mean square of x; m, dy where the threshold does not cut off, 0 elsewhere. */

#include <math.h>

#include "lanes.h"

FOR_EACH_CPU
static void forward(
    float *x, float *y, float *nu, float *gamma, float *shift, float *tau, long pixels, long c, float eps) {
    lanes square[PARTS] = {0}, scale[PARTS], b[PARTS], t[PARTS];
    FOR_TERMS(first, last) {
        lanes term[PARTS] = {0};
        for (long i = first; i < last; i++) EACH(p) term[p] += PART(x + i * c, p) * PART(x + i * c, p);
        EACH(p) square[p] += term[p];
    }
    EACH(p) {
        for (int l = 0; l < WIDTH; l++) nu[WIDTH * p + l] = 1 / sqrtf(square[p][l] / (float)pixels + eps);
        scale[p] = PART(gamma, p) * PART(nu, p), b[p] = PART(shift, p), t[p] = PART(tau, p);
    }
    FOR_PIXELS(i) EACH(p) {
        lanes u = scale[p] * PART(x + i * c, p) + b[p];
        PART(y + i * c, p) = where_positive(u, u) + t[p];
    }
}

/* y = max(gamma nu x + shift, 0) + tau; nu is kept for the gradients. */
long tunit_filter_response(
    float *x, float *y, float *nu, float *gamma, float *shift, float *tau, long n, long pixels, long c, float eps,
    long threads) {
    FOR_LANES_OF_PICTURES(b, k) {
        long at = b * pixels * c + k;
        forward(x + at, y + at, nu + b * c + k, gamma + k, shift + k, tau + k, pixels, c, eps);
    }
    return 0;
}

FOR_EACH_CPU
static void backward(
    float *x, float *dy, float *nu, float *gamma, float *shift, float *dx, float *sums, long pixels, long c, long all) {
    lanes scale[PARTS], b[PARTS], common[PARTS], sum_m[PARTS] = {0}, sum_mx[PARTS] = {0}, sum_dy[PARTS] = {0};
    EACH(p) scale[p] = PART(gamma, p) * PART(nu, p), b[p] = PART(shift, p);
    FOR_TERMS(first, last) {
        lanes some_m[PARTS] = {0}, some_mx[PARTS] = {0}, some_dy[PARTS] = {0};
        for (long i = first; i < last; i++) EACH(p) {
            lanes v = PART(x + i * c, p), d = PART(dy + i * c, p), m = where_positive(scale[p] * v + b[p], d);
            some_m[p] += m, some_mx[p] += m * v, some_dy[p] += d;
        }
        EACH(p) sum_m[p] += some_m[p], sum_mx[p] += some_mx[p], sum_dy[p] += some_dy[p];
    }
    EACH(p) {
        lanes inverse = PART(nu, p);
        PART(sums, p) = inverse * sum_mx[p], PART(sums + all, p) = sum_m[p];
        PART(sums + 2 * all, p) = sum_dy[p] - sum_m[p];
        common[p] = scale[p] * inverse * inverse * sum_mx[p] / (float)pixels;
    }
    FOR_PIXELS(i) EACH(p) {
        lanes v = PART(x + i * c, p);
        PART(dx + i * c, p) = scale[p] * where_positive(scale[p] * v + b[p], PART(dy + i * c, p)) - common[p] * v;
    }
}

/* dx = gamma nu m - gamma nu^3 / pixels (sum of m x) x. sums (3, n, c), for each picture: its contributions to the
   gradients of gamma and of shift, and the sum of dy where the threshold cuts off. */
long tunit_filter_response_backward(
    float *x, float *dy, float *nu, float *gamma, float *shift, float *dx, float *sums, long n, long pixels, long c,
    long threads) {
    FOR_LANES_OF_PICTURES(b, k) {
        long at = b * pixels * c + k, of = b * c + k;
        backward(x + at, dy + at, nu + of, gamma + k, shift + k, dx + at, sums + of, pixels, c, n * c);
    }
    return 0;
}

FOR_EACH_CPU
static void backward_twice(
    float *x, float *dy, float *ddx, float *nu, float *gamma, float *shift, float *of_x, float *of_dy, float *of_gamma,
    long pixels, long c) {
    lanes scale[PARTS], b[PARTS], sum_hm[PARTS] = {0}, sum_hx[PARTS] = {0}, sum_mx[PARTS] = {0};
    EACH(p) scale[p] = PART(gamma, p) * PART(nu, p), b[p] = PART(shift, p);
    FOR_TERMS(first, last) {
        lanes some_hm[PARTS] = {0}, some_hx[PARTS] = {0}, some_mx[PARTS] = {0};
        for (long i = first; i < last; i++) EACH(p) {
            lanes v = PART(x + i * c, p), h = PART(ddx + i * c, p);
            lanes m = where_positive(scale[p] * v + b[p], PART(dy + i * c, p));
            some_hm[p] += h * m, some_hx[p] += h * v, some_mx[p] += m * v;
        }
        EACH(p) sum_hm[p] += some_hm[p], sum_hx[p] += some_hx[p], sum_mx[p] += some_mx[p];
    }
    EACH(p) {
        lanes inverse = PART(nu, p), square = inverse * inverse / (float)pixels, common = scale[p] * square;
        PART(of_gamma, p) = inverse * (sum_hm[p] - square * sum_hx[p] * sum_mx[p]);
        lanes through_nu = common * (sum_hm[p] - 3 * square * sum_hx[p] * sum_mx[p]);
        sum_hx[p] *= common, sum_mx[p] *= common, sum_hm[p] = through_nu;
    }
    FOR_PIXELS(i) EACH(p) {
        lanes v = PART(x + i * c, p), h = PART(ddx + i * c, p), u = scale[p] * v + b[p];
        PART(of_dy + i * c, p) = where_positive(u, scale[p] * h - sum_hx[p] * v);
        PART(of_x + i * c, p) = -sum_hx[p] * where_positive(u, PART(dy + i * c, p)) - sum_mx[p] * h - sum_hm[p] * v;
    }
}

/* The gradients of sum(ddx * dx) with respect to x, dy and gamma; in the code, h is ddx. of_gamma (n, c): each
   picture's contribution to the gradient of gamma. */
long tunit_filter_response_backward_twice(
    float *x, float *dy, float *ddx, float *nu, float *gamma, float *shift, float *of_x, float *of_dy, float *of_gamma,
    long n, long pixels, long c, long threads) {
    FOR_LANES_OF_PICTURES(b, k) {
        long at = b * pixels * c + k, of = b * c + k;
        backward_twice(
            x + at, dy + at, ddx + at, nu + of, gamma + k, shift + k, of_x + at, of_dy + at, of_gamma + of, pixels, c);
    }
    return 0;
}

/* The 3 x 3 convolution, with zeros around, of pictures of 2 x 2 pixels, and its gradients. Every output sees four
   pixels alone, each through one weight: 16 products of matrices instead of the 36 with all zeros.

   Pictures are (n, 2, 2, c), kernels (number, 3, 3, c), float32 and contiguous, c and number multiples of LANES. For
   the products both are laid out in panels of LANES channels: (panels, 4 pixels or 9 weights, odd(rows), LANES). */

#include <omp.h>

#include "lanes.h"
#include "products.h"

#define SOME 32 /* pictures that are multiplied at once */

/* The weight through which output pixel p sees pixel q. */
INLINE long weight_of(long p, long q) {
    return (q / 2 - p / 2 + 1) * 3 + q % 2 - p % 2 + 1;
}

INLINE long plane(long rows) {
    return odd(rows) * LANES;
}

/* Row i of a panel (parts, odd(rows), LANES) from LANES channels of a picture or a kernel, c apart. */
INLINE void read_row(float *from, float *panel, long parts, long rows, long c, long i) {
    for (long part = 0; part < parts; part++)
        EACH(p) PART(panel + part * plane(rows) + i * LANES, p) = PART(from + part * c, p);
}

FOR_THIS_PROCESSOR
static void read_pictures(float *x, float *panel, long n, long c) {
    for (long i = 0; i < n; i++) read_row(x + 4 * i * c, panel, 4, n, c, i);
}

FOR_THIS_PROCESSOR
static void read_by_input(float *w, float *panel, long number, long c) {
    for (long o = 0; o < number; o++) {
        for (long q = 0; q < 9; q++) PREFETCH(w + (9 * (o + 4) + q) * c, 0);
        read_row(w + 9 * o * c, panel, 9, number, c, o);
    }
}

FOR_THIS_PROCESSOR
static void read_by_output(float *w, float *panel, long c) {
    for (long k = 0; k < c; k += LANES)
        for (long q = 0; q < 9; q++) turn_weights(w + q * c + k, 9 * c, panel + q * plane(c) + k * LANES);
}

FOR_THIS_PROCESSOR
static void write_pictures(float *panel, float *y, float *bias, long n, long c) {
    for (long i = 0; i < n; i++)
        EACH(p) PART(y + 4 * i * c, p) = PART(panel + i * LANES, p) + (bias ? PART(bias, p) : (lanes){0});
}

FOR_THIS_PROCESSOR
static void write_kernels(float *product, float *w, long c) {
    for (long o = 0; o < LANES; o++) EACH(p) PART(w + 9 * o * c, p) = PART(product + o * LANES, p);
}

/* How many numbers the functions below need as memory. */
long tunit_two_by_two_memory(long n, long c, long o, long threads) {
    return 4 * odd(n) * (c + o) + threads * 9 * odd(c > o ? c : o) * LANES;
}

/* Pictures x (n, 2, 2, c), in panels, times a panel of kernels: a panel of y (n, 2, 2, o), plus a bias (or NULL).
   `adjoint`: from outputs to inputs. */
static void write_products(
    float *x, float *kernels, float *bias, float *y, long n, long c, long o, int adjoint) {
    float product[SOME * LANES] __attribute__((aligned(64)));
    for (long first = 0, number; first < n; first += number) {
        number = n - first < SOME ? n - first : SOME;
        for (long p = 0; p < 4; p++) {
            for (long q = 0; q < 4; q++)
                multiply(
                    x + q * plane(n) + first * LANES, 4 * plane(n),
                    kernels + (adjoint ? weight_of(q, p) : weight_of(p, q)) * plane(c), product, q > 0, number, c);
            write_pictures(product, y + (4 * first + p) * o, bias, number, o);
        }
    }
}

/* The convolution of x with o kernels, plus a bias (or NULL), to y (n, 2, 2, o). */
void tunit_two_by_two_convolve(
    float *x, float *kernels, float *bias, float *y, float *memory, long n, long c, long o, long threads) {
    float *of_threads = memory + 4 * odd(n) * c;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for
        for (long k = 0; k < c; k += LANES) read_pictures(x + k, memory + 4 * odd(n) * k, n, c);
#pragma omp for schedule(dynamic)
        for (long k = 0; k < o; k += LANES) {
            float *panel = of_threads + omp_get_thread_num() * 9 * plane(c);
            read_by_output(kernels + 9 * k * c, panel, c);
            write_products(memory, panel, bias ? bias + k : bias, y + k, n, c, o, 0);
        }
    }
}

/* Its gradients: dx (or NULL), for given kernels, dw (or NULL), for given x, and db of biases (or NULL). */
void tunit_two_by_two_backward(
    float *x, float *dy, float *kernels, float *dx, float *dw, float *db, float *memory, long n, long c, long o,
    long threads) {
    float *of_x = memory + 4 * odd(n) * o, *of_threads = of_x + 4 * odd(n) * c;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for nowait
        for (long k = 0; k < o; k += LANES) read_pictures(dy + k, memory + 4 * odd(n) * k, n, o);
        if (dw) {
#pragma omp for nowait
            for (long k = 0; k < c; k += LANES) read_pictures(x + k, of_x + 4 * odd(n) * k, n, c);
        }
#pragma omp barrier
        if (dx) {
#pragma omp for schedule(dynamic) nowait
            for (long k = 0; k < c; k += LANES) {
                float *panel = of_threads + omp_get_thread_num() * 9 * plane(o);
                read_by_input(kernels + k, panel, o, c);
                write_products(memory, panel, 0, dx + k, n, o, c, 1);
            }
        }
        if (db) {
#pragma omp for nowait
            for (long k = 0; k < o; k += LANES) {
                lanes sum[PARTS] = {0};
                for (long i = 0; i < 4 * n; i++) EACH(p) sum[p] += PART(dy + i * o + k, p);
                EACH(p) PART(db + k, p) = sum[p];
            }
        }
        if (dw) {
#pragma omp for collapse(2) schedule(dynamic) nowait
            for (long i = 0; i < o; i += LANES)
                for (long j = 0; j < c; j += LANES) {
                    float product[9][LANES * LANES] __attribute__((aligned(64))) = {{0}};
                    for (long p = 0; p < 4; p++)
                        for (long q = 0; q < 4; q++)
                            multiply_transposed(
                                memory + 4 * odd(n) * i + p * plane(n), of_x + 4 * odd(n) * j + q * plane(n),
                                product[weight_of(p, q)], 1, n);
                    for (long q = 0; q < 9; q++) write_kernels(product[q], dw + (9 * i + q) * c + j, c);
                }
        }
    }
}

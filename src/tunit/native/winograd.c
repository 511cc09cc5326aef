/* The transforms of Winograd's convolution F(4 x 4, 3 x 3), which winograd.py puts together; it says what they mean.

   Pictures are (n, h, w, c), kernels (number, 3, 3, c), tiles (36, count, c): position in the 6 x 6 tile first, and
   tiles counted over pictures, rows and columns. All float32 and contiguous; h and w are multiples of 4, c of LANES.
   Every transform is one of lines of six, along the columns and then the rows of a tile, for LANES channels at once:
   a whole cache line, for the 36 positions lie at multiples of a page from each other and share their cache lines. */

#include <stdlib.h>

#include "lanes.h"

enum edge { ZEROS, REPLICATE, REFLECT };

/* What each transform does to a line, in place: the matrices of Lavin and Gray, section 4.3, and their transposes. */

INLINE void input(lanes d[6]) {
    lanes a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], e = 2 * (d[3] - d[1]);
    d[0] = 4 * d[0] - 5 * d[2] + d[4];
    d[5] = 4 * d[1] - 5 * d[3] + d[5];
    d[1] = a + b, d[2] = a - b, d[3] = c + e, d[4] = c - e;
}

INLINE void input_adjoint(lanes d[6]) {
    lanes a = d[1] + d[2], b = d[1] - d[2], c = d[3] + d[4], e = d[3] - d[4];
    d[1] = 4 * (d[5] - b) - 2 * e, d[2] = -5 * d[0] - 4 * a - c;
    d[3] = b + 2 * e - 5 * d[5], d[4] = d[0] + a + c;
    d[0] = 4 * d[0];
}

INLINE void output(lanes d[6]) {
    lanes a = d[1] + d[2], b = d[1] - d[2], c = d[3] + d[4], e = d[3] - d[4];
    d[0] += a + c, d[1] = b + 2 * e, d[2] = a + 4 * c, d[3] = b + 8 * e + d[5];
}

INLINE void output_adjoint(lanes d[6]) {
    lanes a = d[0] + d[2], b = d[1] + d[3], c = d[0] + 4 * d[2], e = 2 * d[1] + 8 * d[3];
    d[5] = d[3];
    d[1] = a + b, d[2] = a - b, d[3] = c + e, d[4] = c - e;
}

INLINE void kernel(lanes d[6]) {
    lanes a = (d[0] + d[2]) / 6, b = d[1] / 6, c = d[0] / 24 + d[2] / 6, e = d[1] / 12;
    d[0] /= 4, d[5] = d[2];
    d[1] = -a - b, d[2] = b - a, d[3] = c + e, d[4] = c - e;
}

INLINE void kernel_adjoint(lanes d[6]) {
    lanes a = (d[1] + d[2]) / 6, b = (d[2] - d[1]) / 6, c = d[3] + d[4], e = (d[3] - d[4]) / 12;
    d[0] = d[0] / 4 - a + c / 24, d[1] = b + e, d[2] = c / 6 - a + d[5];
}

/* Read a line of n values IN[q], transform it, write m values OUT[q]. */
#define LINE(transform, n, IN, m, OUT)         \
    do {                                       \
        lanes d[6];                            \
        for (int q = 0; q < n; q++) d[q] = IN; \
        transform(d);                          \
        for (int q = 0; q < m; q++) OUT;       \
    } while (0)

/* The row or column of a picture that stands at i, which may lie one outside; -1: none, but zeros. */
INLINE long inside(long i, long size, enum edge edge) {
    if (i >= 0 && i < size) return i;
    if (edge == ZEROS) return -1;
    long shift = edge == REFLECT;
    return i < 0 ? shift : size - 1 - shift;
}

/* The 36 pixels under the tile at row i, column j; `outside` for those that are none. */
INLINE void pixels(float *p[36], float *x, float *outside, long h, long w, long c, enum edge edge, long i, long j) {
    for (int a = 0; a < 6; a++)
        for (int b = 0; b < 6; b++) {
            long y = inside(4 * i - 1 + a, h, edge), z = inside(4 * j - 1 + b, w, edge);
            p[6 * a + b] = y < 0 || z < 0 ? outside : x + (y * w + z) * c;
        }
}

FOR_THIS_PROCESSOR
static void read_row(float *x, float *tiles, long plane, long h, long w, long c, enum edge edge, long i, float *outside) {
    for (long j = 0; j < w / 4; j++, tiles += c) {
        float *p[36];
        pixels(p, x, outside, h, w, c, edge, i, j);
        for (long k = 0; k < c; k += LANES) {
            lanes e[36];
            for (int b = 0; b < 6; b++) LINE(input, 6, AT(p[6 * q + b] + k), 6, e[6 * q + b] = d[q]);
            for (int a = 0; a < 6; a++) LINE(input, 6, e[6 * a + q], 6, AT(tiles + (6 * a + q) * plane + k) = d[q]);
        }
    }
}

/* Pictures x to tiles, of their pixels and one more on each side. */
void tunit_tiles_of(float *x, float *tiles, long n, long h, long w, long c, long edge, long threads) {
    float *outside = calloc(c, sizeof(float));
    long rows = h / 4, line = w / 4 * c;
#pragma omp parallel for num_threads(threads)
    for (long r = 0; r < n * rows; r++)
        read_row(x + r / rows * h * w * c, tiles + r * line, n * rows * line, h, w, c, edge, r % rows, outside);
    free(outside);
}

FOR_THIS_PROCESSOR
static void add_picture(
    float *tiles, float *x, long plane, long h, long w, long c, enum edge edge, long from, long to, float *outside) {
    for (long y = 0; y < h * w; y++)
        for (long k = from; k < to; k += LANES) AT(x + y * c + k) = (lanes){0};
    for (long i = 0; i < h / 4; i++)
        for (long j = 0; j < w / 4; j++, tiles += c) {
            float *p[36];
            pixels(p, x, outside, h, w, c, edge, i, j);
            for (long k = from; k < to; k += LANES) {
                lanes e[36];
                for (int b = 0; b < 6; b++)
                    LINE(input_adjoint, 6, AT(tiles + (6 * q + b) * plane + k), 6, e[6 * q + b] = d[q]);
                for (int a = 0; a < 6; a++)
                    LINE(input_adjoint, 6, e[6 * a + q], 6, AT(p[6 * a + q] + k) += d[q]);
            }
        }
}

/* The adjoint of tunit_tiles_of: x is the sum of what every tile gives to its pixels. */
void tunit_tiles_of_adjoint(float *tiles, float *x, long n, long h, long w, long c, long edge, long threads) {
    long one = h / 4 * (w / 4) * c;
    /* Tiles overlap, so that a picture has one thread; few pictures are shared out by their channels. */
    long part = n < threads ? LANES : c, parts = c / part;
    float *outside = calloc(c, sizeof(float));
#pragma omp parallel for num_threads(threads)
    for (long r = 0; r < n * parts; r++) {
        long picture = r / parts, from = r % parts * part;
        add_picture(
            tiles + picture * one, x + picture * h * w * c, n * one, h, w, c, edge, from, from + part, outside);
    }
    free(outside);
}

FOR_THIS_PROCESSOR
static void write_row(float *tiles, float *y, float *bias, long plane, long w, long c, long wide) {
    for (long j = 0; j < w / 4; j++, tiles += c, y += 4 * wide)
        for (long k = 0; k < c; k += LANES) {
            lanes e[24], shift = bias ? AT(bias + k) : (lanes){0};
            for (int b = 0; b < 6; b++)
                LINE(output, 6, AT(tiles + (6 * q + b) * plane + k), 4, e[6 * q + b] = d[q]);
            for (int a = 0; a < 4; a++)
                LINE(output, 6, e[6 * a + q], 4, AT(y + (a * w + q) * wide + k) = d[q] + shift);
        }
}

/* Tiles of products to pictures, plus a bias for each channel (or NULL); y has `wide` channels, c of which are written. */
void tunit_pictures_of(float *tiles, float *y, float *bias, long n, long h, long w, long c, long wide, long threads) {
    long rows = h / 4, line = w / 4 * c;
#pragma omp parallel for num_threads(threads)
    for (long r = 0; r < n * rows; r++)
        write_row(tiles + r * line, y + r * 4 * w * wide, bias, n * rows * line, w, c, wide);
}

FOR_THIS_PROCESSOR
static void lift_row(float *y, float *tiles, long plane, long w, long c, long wide) {
    for (long j = 0; j < w / 4; j++, tiles += c, y += 4 * wide)
        for (long k = 0; k < c; k += LANES) {
            lanes e[24];
            for (int b = 0; b < 4; b++)
                LINE(output_adjoint, 4, AT(y + (q * w + b) * wide + k), 6, e[4 * q + b] = d[q]);
            for (int a = 0; a < 6; a++)
                LINE(output_adjoint, 4, e[4 * a + q], 6, AT(tiles + (6 * a + q) * plane + k) = d[q]);
        }
}

/* The adjoint of tunit_pictures_of. */
void tunit_pictures_of_adjoint(float *y, float *tiles, long n, long h, long w, long c, long wide, long threads) {
    long rows = h / 4, line = w / 4 * c;
#pragma omp parallel for num_threads(threads)
    for (long r = 0; r < n * rows; r++)
        lift_row(y + r * 4 * w * wide, tiles + r * line, n * rows * line, w, c, wide);
}

FOR_THIS_PROCESSOR
static void widen_kernel(float *kernels, float *tiles, long plane, long c) {
    for (long k = 0; k < c; k += LANES) {
        lanes e[18];
        for (int b = 0; b < 3; b++) LINE(kernel, 3, AT(kernels + (3 * q + b) * c + k), 6, e[3 * q + b] = d[q]);
        for (int a = 0; a < 6; a++) LINE(kernel, 3, e[3 * a + q], 6, AT(tiles + (6 * a + q) * plane + k) = d[q]);
    }
}

/* Kernels to tiles. */
void tunit_kernel_tiles(float *kernels, float *tiles, long number, long c, long threads) {
#pragma omp parallel for num_threads(threads)
    for (long o = 0; o < number; o++) widen_kernel(kernels + 9 * o * c, tiles + o * c, number * c, c);
}

FOR_THIS_PROCESSOR
static void narrow_kernel(float *tiles, float *kernels, long keep, long plane, long c) {
    for (long k = 0; k < c; k += LANES) {
        lanes e[18];
        for (int b = 0; b < 6; b++)
            LINE(kernel_adjoint, 6, AT(tiles + (6 * q + b) * plane + k), 3, e[6 * q + b] = d[q]);
        for (int a = 0; a < 3; a++) {
            float *row = kernels + 3 * a * c + k;
            if (keep) LINE(kernel_adjoint, 6, e[6 * a + q], 3, AT(row + q * c) += d[q]);
            else LINE(kernel_adjoint, 6, e[6 * a + q], 3, AT(row + q * c) = d[q]);
        }
    }
}

/* The adjoint of tunit_kernel_tiles, added to what the kernels hold if they are to keep it. */
void tunit_kernel_tiles_adjoint(float *tiles, float *kernels, long keep, long number, long c, long threads) {
#pragma omp parallel for num_threads(threads)
    for (long o = 0; o < number; o++) narrow_kernel(tiles + o * c, kernels + 9 * o * c, keep, number * c, c);
}

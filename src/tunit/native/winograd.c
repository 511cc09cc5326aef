/* Winograd's convolution F(4 x 4, 3 x 3) and its gradients; winograd.py says what they are.

   Pictures are (n, h, w, c), kernels (number, 3, 3, c), all float32; h and w are multiples of 4, c of LANES. Tiles,
   counted over pictures, rows and columns, and kernels in tiles lie in panels of LANES channels: (panels, 36, odd(count),
   LANES), 36 being the position in the 6 x 6 tile. One more of an even number of rows, so that the 36 lines of a tile
   do not all fall into one set of the cache. Every transform is one of lines of six, along the columns and then the
   rows of a tile, WIDTH channels at once; what products give is transformed while it lies in the nearest caches. */

#include <stdlib.h>

#include "lanes.h"
#include "products.h"

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

/* Where the tiles of some pictures stand: `count` of them, counted over pictures, rows and columns. */
struct grid {
    long h, w, c, count; /* of the pictures; c is from one pixel to the next */
    enum edge edge;
};

INLINE struct grid grid_of(long n, long h, long w, long c, enum edge edge) {
    return (struct grid){h, w, c, n * (h / 4) * (w / 4), edge};
}

/* The picture, row and column of tile t. */
#define PLACE(g, t)                                                                   \
    long across = g.w / 4, one = g.h / 4 * across, i = t % one / across, j = t % across; \
    long picture = t / one * g.h * g.w * g.c

/* The 36 pixels under tile t of pictures x; `outside` for those that are none. */
INLINE void pixels(float *p[36], float *x, float *outside, struct grid g, long t) {
    PLACE(g, t);
    for (int a = 0; a < 6; a++)
        for (int b = 0; b < 6; b++) {
            long y = inside(4 * i - 1 + a, g.h, g.edge), z = inside(4 * j - 1 + b, g.w, g.edge);
            p[6 * a + b] = y < 0 || z < 0 ? outside : x + picture + (y * g.w + z) * g.c;
        }
}

/* The first of the 16 pixels of tile t. */
INLINE float *corner(float *y, struct grid g, long t) {
    PLACE(g, t);
    return y + picture + (4 * i * g.w + 4 * j) * g.c;
}

INLINE long odd(long count) {
    return count | 1;
}

/* From a position in the tile to the next one, of so many rows; and from a panel to the next. */
INLINE long plane(long count) {
    return odd(count) * LANES;
}

INLINE long panel(long count) {
    return 36 * plane(count);
}

FOR_THIS_PROCESSOR
static void read_tile(float *x, float *tiles, struct grid g, long c, long t, float *outside) {
    float *p[36];
    pixels(p, x, outside, g, t);
    for (long k = 0; k < c; k += WIDTH) {
        lanes e[36];
        float *to = tiles + k / LANES * panel(g.count) + t * LANES + k % LANES;
        for (int b = 0; b < 6; b++) LINE(input, 6, AT(p[6 * q + b] + k), 6, e[6 * q + b] = d[q]);
        for (int a = 0; a < 6; a++) LINE(input, 6, e[6 * a + q], 6, AT(to + (6 * a + q) * plane(g.count)) = d[q]);
    }
}

/* Pictures x to tiles, of their pixels and one more on each side. */
void tunit_tiles_of(float *x, float *tiles, long n, long h, long w, long c, long edge, long threads) {
    float *outside = calloc(c, sizeof(float));
    struct grid g = grid_of(n, h, w, c, edge);
#pragma omp parallel for num_threads(threads)
    for (long t = 0; t < g.count; t++) read_tile(x, tiles, g, c, t, outside);
    free(outside);
}

FOR_THIS_PROCESSOR
static void lift_tile(float *dy, float *tiles, struct grid g, long t) {
    float *from = corner(dy, g, t);
    for (long k = 0; k < g.c; k += WIDTH) {
        lanes e[24];
        float *to = tiles + k / LANES * panel(g.count) + t * LANES + k % LANES;
        for (int b = 0; b < 4; b++) LINE(output_adjoint, 4, AT(from + (q * g.w + b) * g.c + k), 6, e[4 * q + b] = d[q]);
        for (int a = 0; a < 6; a++)
            LINE(output_adjoint, 4, e[4 * a + q], 6, AT(to + (6 * a + q) * plane(g.count)) = d[q]);
    }
}

/* Gradients dy of a convolution's pictures to gradients of the products they were made of, in tiles. */
void tunit_product_gradients(float *dy, float *tiles, long n, long h, long w, long o, long threads) {
    struct grid g = grid_of(n, h, w, o, ZEROS);
#pragma omp parallel for num_threads(threads)
    for (long t = 0; t < g.count; t++) lift_tile(dy, tiles, g, t);
}

/* LANES channels of a kernel, `step` from each of its 9 weights to the next, to a row of a panel. */
INLINE void widen_kernel(float *w, long step, float *row, long plane) {
    for (long k = 0; k < LANES; k += WIDTH) {
        lanes e[18];
        for (int b = 0; b < 3; b++) LINE(kernel, 3, AT(w + (3 * q + b) * step + k), 6, e[3 * q + b] = d[q]);
        for (int a = 0; a < 6; a++) LINE(kernel, 3, e[3 * a + q], 6, AT(row + (6 * a + q) * plane + k) = d[q]);
    }
}

FOR_THIS_PROCESSOR
static void widen_panel(float *w, float *tiles, long number, long c) {
    for (long o = 0; o < number; o++) widen_kernel(w + 9 * o * c, c, tiles + o * LANES, plane(number));
}

/* Some input channels of kernels w, which have c, to tiles of `number` rows. */
void tunit_kernel_tiles_by_input(float *w, float *tiles, long number, long c, long some, long threads) {
#pragma omp parallel for num_threads(threads)
    for (long k = 0; k < some; k += LANES) widen_panel(w + k, tiles + k / LANES * panel(number), number, c);
}

FOR_THIS_PROCESSOR
static void turn_panel(float *w, float *tiles, long c) {
    float turned[LANES][9][LANES];
    for (long k = 0; k < c; k += LANES) {
        for (int o = 0; o < LANES; o++)
            for (int p = 0; p < 9; p++)
                for (int q = 0; q < LANES; q++) turned[q][p][o] = w[(9 * o + p) * c + k + q];
        for (int q = 0; q < LANES; q++) widen_kernel(turned[q][0], LANES, tiles + (k + q) * LANES, plane(c));
    }
}

/* Kernels to tiles of c rows: their channels are the kernels. */
void tunit_kernel_tiles_by_output(float *w, float *tiles, long number, long c, long threads) {
#pragma omp parallel for num_threads(threads)
    for (long o = 0; o < number; o += LANES) turn_panel(w + 9 * o * c, tiles + o / LANES * panel(c), c);
}

/* What a thread multiplies before it transforms the result: of so many tiles, and so many panels beside each other. */
#define SOME 32
#define BESIDE 2
typedef float products[36 * (SOME | 1) * LANES] __attribute__((aligned(64)));

/* Tiles from `first` on, of channels in panels, times a panel of kernels: (36, odd(number), LANES). */
INLINE void multiply_tiles(
    float *tiles, float *kernels, float *out, long count, long first, long number, long depth, long k) {
    multiply(
        tiles + k * plane(count) + first * LANES, panel(count), kernels + k * plane(depth), out + k * plane(number), number,
        depth);
}

FOR_THIS_PROCESSOR
static void write_tile(float *product, float *y, float *bias, struct grid g, long plane, long t) {
    float *to = corner(y, g, t);
    for (long k = 0; k < LANES; k += WIDTH) {
        lanes e[24], shift = bias ? AT(bias + k) : (lanes){0};
        for (int b = 0; b < 6; b++) LINE(output, 6, AT(product + (6 * q + b) * plane + k), 4, e[6 * q + b] = d[q]);
        for (int a = 0; a < 4; a++)
            LINE(output, 6, e[6 * a + q], 4, AT(to + (a * g.w + q) * g.c + k) = d[q] + shift);
    }
}

/* Tiles of c channels times those of o kernels, by output, to pictures y, plus a bias for each (or NULL); y has `wide`
   channels, o of which are written. */
void tunit_convolve(
    float *tiles, float *kernels, float *bias, float *y, long n, long h, long w, long c, long o, long wide,
    long threads) {
    struct grid g = grid_of(n, h, w, wide, ZEROS);
    long groups = (g.count + SOME - 1) / SOME, panels = o / LANES;
#pragma omp parallel for num_threads(threads) collapse(2) schedule(dynamic)
    for (long from = 0; from < panels; from += BESIDE)
        for (long group = 0; group < groups; group++) {
            long first = g.count * group / groups, number = g.count * (group + 1) / groups - first;
            long to = from + BESIDE < panels ? from + BESIDE : panels;
            products product[BESIDE];
            for (long k = 0; k < 36; k++)
                for (long p = from; p < to; p++)
                    multiply_tiles(tiles, kernels + p * panel(c), product[p - from], g.count, first, number, c, k);
            for (long p = from; p < to; p++)
                for (long t = 0; t < number; t++)
                    write_tile(
                        product[p - from] + t * LANES, y + p * LANES, bias ? bias + p * LANES : bias, g, plane(number),
                        first + t);
        }
}

FOR_THIS_PROCESSOR
static void add_tile(float *product, float *x, struct grid g, long plane, long t, float *outside) {
    float *p[36];
    pixels(p, x, outside, g, t);
    for (long k = 0; k < LANES; k += WIDTH) {
        lanes e[36];
        for (int b = 0; b < 6; b++)
            LINE(input_adjoint, 6, AT(product + (6 * q + b) * plane + k), 6, e[6 * q + b] = d[q]);
        for (int a = 0; a < 6; a++) LINE(input_adjoint, 6, e[6 * a + q], 6, AT(p[6 * a + q] + k) += d[q]);
    }
}

/* The gradient of pictures, `some` channels of dx, which has c: tiles of products' gradients, of o channels, times
   kernels by input. Tiles overlap, so that a thread has whole pictures. */
void tunit_picture_gradients(
    float *d_products, float *kernels, float *dx, long n, long h, long w, long o, long some, long c, long edge,
    long threads) {
    struct grid g = grid_of(n, h, w, c, edge);
    long one = g.count / n, together = one < SOME ? SOME / one : 1, groups = (n + together - 1) / together;
    long panels = some / LANES;
#pragma omp parallel for num_threads(threads) collapse(2) schedule(dynamic)
    for (long from = 0; from < panels; from += BESIDE)
        for (long group = 0; group < groups; group++) {
            long begin = n * group / groups, tiles = (n * (group + 1) / groups - begin) * one;
            long to = from + BESIDE < panels ? from + BESIDE : panels, parts = (tiles + SOME - 1) / SOME;
            float outside[LANES];
            products product[BESIDE];
            for (long pixel = begin * h * w; pixel < (begin * one + tiles) * 16; pixel++)
                for (long k = from * LANES; k < to * LANES; k += WIDTH) AT(dx + pixel * c + k) = (lanes){0};
            for (long part = 0; part < parts; part++) {
                long first = begin * one + tiles * part / parts, number = begin * one + tiles * (part + 1) / parts - first;
                for (long k = 0; k < 36; k++)
                    for (long p = from; p < to; p++)
                        multiply_tiles(d_products, kernels + p * panel(o), product[p - from], g.count, first, number, o, k);
                for (long p = from; p < to; p++)
                    for (long t = 0; t < number; t++)
                        add_tile(product[p - from] + t * LANES, dx + p * LANES, g, plane(number), first + t, outside);
            }
        }
}

FOR_THIS_PROCESSOR
static void narrow_kernel(float *product, float *w, long keep, long c) {
    for (long k = 0; k < LANES; k += WIDTH) {
        lanes e[18];
        for (int b = 0; b < 6; b++)
            LINE(kernel_adjoint, 6, AT(product + (6 * q + b) * LANES * LANES + k), 3, e[6 * q + b] = d[q]);
        for (int a = 0; a < 3; a++) {
            float *row = w + 3 * a * c + k;
            if (keep) LINE(kernel_adjoint, 6, e[6 * a + q], 3, AT(row + q * c) += d[q]);
            else LINE(kernel_adjoint, 6, e[6 * a + q], 3, AT(row + q * c) = d[q]);
        }
    }
}

/* The gradient of kernels: tiles of products' gradients, of o channels, times tiles of c, summed over `count` of both;
   added to what dw holds if it is to keep it. */
void tunit_kernel_gradients(
    float *tiles, float *d_products, float *dw, long keep, long count, long o, long c, long threads) {
    long down = o / LANES, right = c / LANES;
#pragma omp parallel for num_threads(threads) collapse(2) schedule(dynamic)
    for (long i = 0; i < down; i += BESIDE)
        for (long j = 0; j < right; j += BESIDE) {
            float product[BESIDE][BESIDE][36][LANES * LANES] __attribute__((aligned(64)));
#define EACH_PANEL(a, b)                                          \
    for (long a = 0; a < BESIDE && i + a < down; a++)             \
        for (long b = 0; b < BESIDE && j + b < right; b++)
            for (long k = 0; k < 36; k++)
                EACH_PANEL(a, b)
                    multiply_transposed(
                        d_products + (i + a) * panel(count) + k * plane(count),
                        tiles + (j + b) * panel(count) + k * plane(count), product[a][b][k], count);
            EACH_PANEL(a, b)
                for (long q = 0; q < LANES; q++)
                    narrow_kernel(
                        product[a][b][0] + q * LANES, dw + ((i + a) * LANES + q) * 9 * c + (j + b) * LANES, keep, c);
        }
}

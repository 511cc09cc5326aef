/* Winograd's convolution F(4 x 4, 3 x 3) and its gradients; winograd.py says what they are.

   Pictures are (n, h, w, c), kernels (number, 3, 3, c), all float32; h and w are multiples of 4, c of LANES. Tiles,
   counted over pictures, rows and columns, and kernels in tiles lie in panels of LANES channels: (panels, 36, odd(count),
   LANES), 36 being the position in the 6 x 6 tile. One more of an even number of rows, so that the 36 lines of a tile
   do not all fall into one set of the cache. Every transform is one of lines of six, along the columns and then the
   rows of a tile, WIDTH channels at once; what products give is transformed while it lies in the nearest caches. */

#include <omp.h>
#include <stdlib.h>

#include "lanes.h"
#include "products.h"

/* Ask for what is soon read (0) or written (1): pixels lie too far apart for the processor to guess. */
#define PREFETCH(pointer, write) __builtin_prefetch(pointer, write)

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
        if (k % LANES == 0)
            for (int a = 0; a < 6; a++)
                for (int b = 2; b < 6; b++) PREFETCH(p[6 * a + b] + 4 * g.c + k, 0);
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
        if (k % LANES == 0)
            for (int a = 0; a < 4; a++)
                for (int b = 4; b < 8; b++) PREFETCH(from + (a * g.w + b) * g.c + k, 0);
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

/* `some` kernels w of c input channels, LANES of those, to a panel of as many rows. */
FOR_THIS_PROCESSOR
static void widen_by_input(float *w, float *panel, long c, long some) {
    for (long o = 0; o < some; o++, w += 9 * c) {
        for (int p = 0; p < 9; p++) PREFETCH(w + (4 * 9 + p) * c, 0);
        widen_kernel(w, c, panel + o * LANES, plane(some));
    }
}

/* to[q * LANES + r] = from[r * step + q] for WIDTH rows and columns. */
INLINE void turn(float *from, long step, float *to) {
#if defined(__has_builtin) && WIDTH == 8
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
    lanes r[8], s[8];
    UNROLL for (int i = 0; i < 8; i++) r[i] = AT(from + i * step);
    UNROLL for (int i = 0; i < 8; i += 2) {
        s[i] = SHUFFLE(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        s[i + 1] = SHUFFLE(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    UNROLL for (int i = 0; i < 8; i++) {
        int a = (i & 4) | (i >> 1 & 1); /* of a pair, and of the next */
        r[i] = i & 1 ? SHUFFLE(s[a], s[a + 2], 2, 3, 10, 11, 6, 7, 14, 15)
                     : SHUFFLE(s[a], s[a + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        AT(to + i * LANES) = SHUFFLE(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        AT(to + (i + 4) * LANES) = SHUFFLE(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    return;
#endif
#endif
    for (int q = 0; q < WIDTH; q++)
        for (int r = 0; r < WIDTH; r++) to[q * LANES + r] = from[r * step + q];
}

/* LANES kernels w of c input channels, `some` of those, to a panel of as many rows. */
FOR_THIS_PROCESSOR
static void widen_by_output(float *w, float *panel, long c, long some) {
    float turned[9][LANES * LANES];
    for (long k = 0; k < some; k += LANES) {
        for (int o = 0; o < LANES; o++)
            for (int p = 0; p < 9; p++) PREFETCH(w + (9 * o + p) * c + k + LANES, 0);
        for (int p = 0; p < 9; p++)
            for (int o = 0; o < LANES; o += WIDTH)
                for (int q = 0; q < LANES; q += WIDTH)
                    turn(w + (9 * o + p) * c + k + q, 9 * c, turned[p] + q * LANES + o);
        for (int q = 0; q < LANES; q++)
            widen_kernel(turned[0] + q * LANES, LANES * LANES, panel + (k + q) * LANES, plane(some));
    }
}

/* What a thread works on at a time: so many tiles; some such groups of them; so many channels that are summed over. */
#define SOME 32
#define GROUPS 4
#define DEPTH 128
struct work {
    float products[GROUPS][36 * (SOME | 1) * LANES], kernels[36 * (DEPTH | 1) * LANES];
};

/* The bytes of memory that one thread needs. */
long tunit_work_of_a_thread(void) {
    return sizeof(struct work);
}

/* Tiles that kernels are transformed for, at least, where there are so many. */
#define AT_LEAST 256

/* Over the groups of tiles from `first` to `last`, each from a to b. */
#define FOR_GROUPS(group, a, b)                                                                                          \
    for (long group = 0, groups = (last - first + SOME - 1) / SOME, a = first, b = first + (last - first) / groups;      \
         group < groups; group++, a = b, b = first + (last - first) * (group + 1) / groups)

/* Products with a panel of kernels of all tiles from first to last, GROUPS * SOME at most; products of a tile are summed
   over all c channels. `again`: whether these are the kernels of last time. */
INLINE void multiply_tiles(
    struct work *work, void (*widen)(float *, float *, long, long), float *w, long step, long width, int again,
    float *tiles, long count, long c, long first, long last, float *y, struct grid g) {
    for (long from = 0; from < c; from += DEPTH) {
        long some = c - from < DEPTH ? c - from : DEPTH;
        if (!again || c > DEPTH) widen(w + from * step, work->kernels, width, some);
        FOR_GROUPS(group, a, b)
            for (long k = 0; k < 36; k++) {
                if (a + k < b && from + some == c) {
                    float *to = corner(y, g, a + k);
                    for (long q = 0; q < 16; q++) PREFETCH(to + (q / 4 * g.w + q % 4) * g.c, 1);
                }
                multiply(
                    tiles + from / LANES * panel(count) + k * plane(count) + a * LANES, panel(count),
                    work->kernels + k * plane(some), work->products[group] + k * plane(b - a), from > 0, b - a, some);
            }
    }
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

/* Tiles of c channels convolved with o kernels w to pictures y, plus a bias for each (or NULL). */
void tunit_convolve(
    float *tiles, float *kernels, float *bias, float *y, struct work *works, long n, long h, long w, long c, long o,
    long threads) {
    struct grid g = grid_of(n, h, w, o, ZEROS);
    long at_once = GROUPS * SOME, ranges = (g.count + AT_LEAST - 1) / AT_LEAST;
#pragma omp parallel for num_threads(threads) collapse(2) schedule(dynamic)
    for (long from = 0; from < o; from += LANES)
        for (long range = 0; range < ranges; range++) {
            struct work *work = works + omp_get_thread_num();
            long begin = g.count * range / ranges, end = g.count * (range + 1) / ranges;
            for (long first = begin, last; first < end; first = last) {
                last = first + at_once < end ? first + at_once : end;
                multiply_tiles(
                    work, widen_by_output, kernels + 9 * from * c, 1, c, first > begin, tiles, g.count, c, first, last, y + from, g);
                FOR_GROUPS(group, a, b)
                    for (long t = a; t < b; t++)
                        write_tile(
                            work->products[group] + (t - a) * LANES, y + from, bias ? bias + from : bias, g, plane(b - a),
                            t);
            }
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

/* The gradient dx of pictures (n, h, w, c): tiles of products' gradients, of o channels, times kernels. Tiles overlap,
   so that a thread has whole pictures. */
void tunit_picture_gradients(
    float *d_products, float *kernels, float *dx, struct work *works, long n, long h, long w, long c, long o, long edge,
    long threads) {
    struct grid g = grid_of(n, h, w, c, edge);
    long one = g.count / n, at_once = GROUPS * SOME, ranges = (g.count + AT_LEAST - 1) / AT_LEAST;
    if (ranges > n) ranges = n;
#pragma omp parallel for num_threads(threads) collapse(2) schedule(dynamic)
    for (long from = 0; from < c; from += LANES)
        for (long range = 0; range < ranges; range++) {
            struct work *work = works + omp_get_thread_num();
            long begin = n * range / ranges * one, end = n * (range + 1) / ranges * one;
            float outside[LANES];
            for (long pixel = begin * 16; pixel < end * 16; pixel++)
                EACH(p) PART(dx + pixel * c + from, p) = (lanes){0};
            for (long first = begin, last; first < end; first = last) {
                last = first + at_once < end ? first + at_once : end;
                multiply_tiles(
                    work, widen_by_input, kernels + from, 9 * c, c, first > begin, d_products, g.count, o, first, last, dx + from, g);
                FOR_GROUPS(group, a, b)
                    for (long t = a; t < b; t++)
                        add_tile(work->products[group] + (t - a) * LANES, dx + from, g, plane(b - a), t, outside);
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

/* Over a few panels of gradients and of tiles, and what a thread has for the product of two. */
#define BESIDE 2
#define FOR_PANELS(a, b)                                      \
    for (long a = i; a < down && a < i + BESIDE; a++)         \
        for (long b = j; b < right && b < j + BESIDE; b++)
#define PRODUCT(a, b) (products + ((a - i) * BESIDE + b - j) * 36 * LANES * LANES)

/* The gradient of kernels: tiles of products' gradients, of o channels, times tiles of c, summed over `count` of both;
   added to what dw holds if it is to keep it. */
void tunit_kernel_gradients(
    float *tiles, float *d_products, float *dw, struct work *works, long keep, long count, long o, long c, long threads) {
    long down = o / LANES, right = c / LANES;
#pragma omp parallel for num_threads(threads) collapse(2) schedule(dynamic)
    for (long i = 0; i < down; i += BESIDE)
        for (long j = 0; j < right; j += BESIDE) {
            float *products = works[omp_get_thread_num()].products[0];
            for (long k = 0; k < 36; k++)
                FOR_PANELS(a, b)
                    multiply_transposed(
                        d_products + a * panel(count) + k * plane(count), tiles + b * panel(count) + k * plane(count),
                        PRODUCT(a, b) + k * LANES * LANES, count);
            FOR_PANELS(a, b)
                for (long q = 0; q < LANES; q++)
                    narrow_kernel(PRODUCT(a, b) + q * LANES, dw + (a * LANES + q) * 9 * c + b * LANES, keep, c);
        }
}

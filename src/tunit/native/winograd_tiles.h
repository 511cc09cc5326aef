/* The transforms of Winograd's convolution F(4 x 4, 3 x 3): pictures, kernels and products to tiles and back.

   Pictures are (n, h, w, c), kernels (number, 3, 3, c), all float32; h and w are multiples of 4, c of LANES. Tiles,
   counted over pictures, rows and columns, and kernels in tiles lie in panels of LANES channels: (panels, 36, odd(count),
   LANES), 36 being the position in the 6 x 6 tile. One more of an even number of rows, so that the 36 lines of a tile
   do not all fall into one set of the cache. Every transform is one of lines of six, along the columns and then the
   rows of a tile, WIDTH channels at once. */

#ifndef TUNIT_WINOGRAD_TILES_H
#define TUNIT_WINOGRAD_TILES_H

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

/* Tile t is soon written. */
INLINE void expect(float *y, struct grid g, long t) {
    float *to = corner(y, g, t);
    for (long q = 0; q < 16; q++) PREFETCH(to + (q / 4 * g.w + q % 4) * g.c, 1);
}

/* From a position in the tile to the next one, of so many rows; and from a panel to the next. */
INLINE long plane(long count) {
    return odd(count) * LANES;
}

INLINE long panel(long count) {
    return 36 * plane(count);
}

/* Pixels x under tile t to the tile; `outside` are c zeros. */
FOR_THIS_PROCESSOR
static void read_tile(float *x, float *tiles, struct grid g, long t, float *outside) {
    float *p[36];
    pixels(p, x, outside, g, t);
    for (long k = 0; k < g.c; k += WIDTH) {
        lanes e[36];
        float *to = tiles + k / LANES * panel(g.count) + t * LANES + k % LANES;
        if (k % LANES == 0)
            for (int a = 0; a < 6; a++)
                for (int b = 2; b < 6; b++) PREFETCH(p[6 * a + b] + 4 * g.c + k, 0);
        for (int b = 0; b < 6; b++) LINE(input, 6, AT(p[6 * q + b] + k), 6, e[6 * q + b] = d[q]);
        for (int a = 0; a < 6; a++) LINE(input, 6, e[6 * a + q], 6, AT(to + (6 * a + q) * plane(g.count)) = d[q]);
    }
}

/* The adjoint of write_tile, of all channels: gradients dy of the pixels to gradients of the products. */
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

/* A panel of products at tile t to its pixels of y, plus a bias (or NULL). */
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

/* Zeros in the rows, of a panel of pixels x, that the row of tiles from t on adds to first. */
FOR_THIS_PROCESSOR
static void clear_rows(float *x, struct grid g, long t) {
    PLACE(g, t);
    long from = i ? 4 * i + 1 : 0, to = 4 * i + 5 < g.h ? 4 * i + 5 : g.h;
    for (long pixel = from * g.w; pixel < to * g.w; pixel++) EACH(p) PART(x + picture + pixel * g.c, p) = (lanes){0};
    (void)j;
}

/* The adjoint of read_tile, of a panel: added to the pixels x; what falls outside is lost in `outside`. */
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

/* LANES kernels w of c input channels, `some` of those, to a panel of as many rows. */
FOR_THIS_PROCESSOR
static void widen_by_output(float *w, float *panel, long c, long some) {
    float turned[9][LANES * LANES];
    for (long k = 0; k < some; k += LANES) {
        turn_kernels(w + k, c, turned[0], LANES * LANES);
        for (int q = 0; q < LANES; q++)
            widen_kernel(turned[0] + q * LANES, LANES * LANES, panel + (k + q) * LANES, plane(some));
    }
}

/* The adjoint of widen_kernel: products' gradients (36, LANES, LANES) at a kernel's row to w, or added to it. */
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

#endif

/* The transforms of Winograd's convolution F(4 x 4, 3 x 3): of pictures and kernels to tiles, of the products of tiles
   to pictures, and the adjoints of these transforms, for the gradients.

   Pictures are (n, h, w, c), kernels (number, 3, 3, c), all float32; h and w are multiples of 4, c of LANES. Tiles (of
   all pictures, row by row) and transformed kernels are stored in panels of LANES channels: (panels, PLACES,
   odd(count), LANES), where `count` is the number of tiles or kernels; lanes.h says why it is made odd. Every transform
   is applied to the columns of a tile and then to its rows, to WIDTH channels at once. */

#ifndef TUNIT_WINOGRAD_TILES_H
#define TUNIT_WINOGRAD_TILES_H

#include "lanes.h"

enum edge { ZEROS, REPLICATE, REFLECT };

#define SIDE 3           /* the side of a kernel */
#define OUT 4            /* the side of a tile's outputs */
#define TILE (OUT + SIDE - 1)
#define PLACES (TILE * TILE)

/* Each transform, and its adjoint, of one column or row of a tile, in place: products with the matrices of Lavin and
   Gray (2016), section 4.3, and with their transposes. */

INLINE void input_transform(lanes d[6]) {
    lanes a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], e = 2 * (d[3] - d[1]);
    d[0] = 4 * d[0] - 5 * d[2] + d[4];
    d[5] = 4 * d[1] - 5 * d[3] + d[5];
    d[1] = a + b, d[2] = a - b, d[3] = c + e, d[4] = c - e;
}

INLINE void input_transform_adjoint(lanes d[6]) {
    lanes a = d[1] + d[2], b = d[1] - d[2], c = d[3] + d[4], e = d[3] - d[4];
    d[1] = 4 * (d[5] - b) - 2 * e, d[2] = -5 * d[0] - 4 * a - c;
    d[3] = b + 2 * e - 5 * d[5], d[4] = d[0] + a + c;
    d[0] = 4 * d[0];
}

INLINE void output_transform(lanes d[6]) {
    lanes a = d[1] + d[2], b = d[1] - d[2], c = d[3] + d[4], e = d[3] - d[4];
    d[0] += a + c, d[1] = b + 2 * e, d[2] = a + 4 * c, d[3] = b + 8 * e + d[5];
}

INLINE void output_transform_adjoint(lanes d[6]) {
    lanes a = d[0] + d[2], b = d[1] + d[3], c = d[0] + 4 * d[2], e = 2 * d[1] + 8 * d[3];
    d[5] = d[3];
    d[1] = a + b, d[2] = a - b, d[3] = c + e, d[4] = c - e;
}

INLINE void kernel_transform(lanes d[6]) {
    lanes a = (d[0] + d[2]) / 6, b = d[1] / 6, c = d[0] / 24 + d[2] / 6, e = d[1] / 12;
    d[0] /= 4, d[5] = d[2];
    d[1] = -a - b, d[2] = b - a, d[3] = c + e, d[4] = c - e;
}

INLINE void kernel_transform_adjoint(lanes d[6]) {
    lanes a = (d[1] + d[2]) / 6, b = (d[2] - d[1]) / 6, c = d[3] + d[4], e = (d[3] - d[4]) / 12;
    d[0] = d[0] / 4 - a + c / 24, d[1] = b + e, d[2] = c / 6 - a + d[5];
}

/* Read a column or row of n values, transform it, and write m values. IN: an expression that reads value q. TO: a
   statement that writes value q of the result, d[q]. */
#define LINE(transform, n, IN, m, TO)          \
    do {                                       \
        lanes d[TILE];                         \
        for (int q = 0; q < n; q++) d[q] = IN; \
        transform(d);                          \
        for (int q = 0; q < m; q++) TO;        \
    } while (0)

/* The row or column of a picture to use at position i, which may be one position outside of the picture. The result -1
   means zeros. */
INLINE long position_at_edge(long i, long size, enum edge edge) {
    if (i >= 0 && i < size) return i;
    if (edge == ZEROS) return -1;
    long shift = edge == REFLECT;
    return i < 0 ? shift : size - 1 - shift;
}

/* The grid of tiles of some pictures: `count` tiles, numbered picture by picture and row by row. */
struct grid {
    long h, w, c, count; /* the pictures are h x w x c; c is also the distance from one pixel to the next */
    enum edge edge;
};

INLINE struct grid grid_of(long n, long h, long w, long c, enum edge edge) {
    return (struct grid){h, w, c, n * (h / OUT) * (w / OUT), edge};
}

/* Where tile t begins: the offset of its picture, and the row i and the column j of its first output pixel. */
#define PLACE(g, t)                                        \
    long across = g.w / OUT, one = g.h / OUT * across;     \
    long i = OUT * (t % one / across), j = OUT * (t % across); \
    long picture = t / one * g.h * g.w * g.c

/* Pointers to the pixels of x that tile t covers; `outside` for positions outside of the picture. */
INLINE void pixels_under(float *p[PLACES], float *x, float *outside, struct grid g, long t) {
    PLACE(g, t);
    for (int a = 0; a < TILE; a++)
        for (int b = 0; b < TILE; b++) {
            long y = position_at_edge(i - 1 + a, g.h, g.edge);
            long z = position_at_edge(j - 1 + b, g.w, g.edge);
            p[TILE * a + b] = y < 0 || z < 0 ? outside : x + picture + (y * g.w + z) * g.c;
        }
}

/* The first of the 16 output pixels of tile t. */
INLINE float *first_pixel(float *y, struct grid g, long t) {
    PLACE(g, t);
    return y + picture + (i * g.w + j) * g.c;
}

/* Load the output pixels of tile t into the cache, because they will soon be written. */
INLINE void prefetch_outputs(float *y, struct grid g, long t) {
    float *to = first_pixel(y, g, t);
    for (long q = 0; q < 16; q++) PREFETCH(to + (q / 4 * g.w + q % 4) * g.c, 1);
}

/* In panels of `count` tiles: the distance from one position in a tile to the next, and from one panel to the next. */
INLINE long plane(long count) {
    return odd(count) * LANES;
}

INLINE long panel(long count) {
    return PLACES * plane(count);
}

/* Transform the pixels of x that tile t covers, and write the tile. `outside`: c zeros. */
FOR_EACH_CPU
static void transform_input(float *x, float *tiles, struct grid g, long t, float *outside) {
    float *p[PLACES];
    pixels_under(p, x, outside, g, t);
    for (long k = 0; k < g.c; k += WIDTH) {
        lanes e[PLACES];
        float *to = tiles + k / LANES * panel(g.count) + t * LANES + k % LANES;
        if (k % LANES == 0)
            for (int a = 0; a < TILE; a++)
                for (int b = SIDE - 1; b < TILE; b++) PREFETCH(p[TILE * a + b] + OUT * g.c + k, 0);
        for (int b = 0; b < TILE; b++)
            LINE(input_transform, TILE, AT(p[TILE * q + b] + k), TILE, e[TILE * q + b] = d[q]);
        for (int a = 0; a < TILE; a++)
            LINE(input_transform, TILE, e[TILE * a + q], TILE, AT(to + (TILE * a + q) * plane(g.count)) = d[q]);
    }
}

/* The adjoint of transform_output, for all channels: compute gradients of the products from gradients dy of the pixels.
   */
FOR_EACH_CPU
static void transform_output_gradient(float *dy, float *tiles, struct grid g, long t) {
    float *from = first_pixel(dy, g, t);
    for (long k = 0; k < g.c; k += WIDTH) {
        lanes e[4 * TILE];
        float *to = tiles + k / LANES * panel(g.count) + t * LANES + k % LANES;
        if (k % LANES == 0)
            for (int a = 0; a < 4; a++)
                for (int b = 4; b < 8; b++) PREFETCH(from + (a * g.w + b) * g.c + k, 0);
        for (int b = 0; b < 4; b++)
            LINE(output_transform_adjoint, 4, AT(from + (q * g.w + b) * g.c + k), TILE, e[4 * q + b] = d[q]);
        for (int a = 0; a < TILE; a++)
            LINE(output_transform_adjoint, 4, e[4 * a + q], TILE, AT(to + (TILE * a + q) * plane(g.count)) = d[q]);
    }
}

/* Transform the products of tile t, for LANES channels, and write its pixels of y. bias: added to the pixels, or NULL.
   */
FOR_EACH_CPU
static void transform_output(float *product, float *y, float *bias, struct grid g, long plane, long t) {
    float *to = first_pixel(y, g, t);
    for (long k = 0; k < LANES; k += WIDTH) {
        lanes e[4 * TILE], shift = bias ? AT(bias + k) : (lanes){0};
        for (int b = 0; b < TILE; b++)
            LINE(output_transform, TILE, AT(product + (TILE * q + b) * plane + k), 4, e[TILE * q + b] = d[q]);
        for (int a = 0; a < 4; a++)
            LINE(output_transform, TILE, e[TILE * a + q], 4, AT(to + (a * g.w + q) * g.c + k) = d[q] + shift);
    }
}

/* t is the first tile in a row of tiles. Before gradients are added to x, set to 0 the rows of pixels that this row of
   tiles covers and the one above does not, for LANES channels. */
FOR_EACH_CPU
static void clear_rows(float *x, struct grid g, long t) {
    PLACE(g, t);
    for (long a = i ? SIDE - 1 : 0; a < TILE; a++) {
        long y = i - 1 + a;
        if (y < 0 || y >= g.h) continue;
        for (long z = 0; z < g.w; z++)
            EACH(p) PART(x + picture + (y * g.w + z) * g.c, p) = (lanes){0};
    }
    (void)j;
}

/* The adjoint of transform_input, for LANES channels: add to the pixels x. Values for positions outside of the picture
   are added to `outside`, which nobody reads. */
FOR_EACH_CPU
static void add_input_gradient(float *product, float *x, struct grid g, long plane, long t, float *outside) {
    float *p[PLACES];
    pixels_under(p, x, outside, g, t);
    for (long k = 0; k < LANES; k += WIDTH) {
        lanes e[PLACES];
        for (int b = 0; b < TILE; b++)
            LINE(input_transform_adjoint, TILE, AT(product + (TILE * q + b) * plane + k), TILE, e[TILE * q + b] = d[q]);
        for (int a = 0; a < TILE; a++)
            LINE(input_transform_adjoint, TILE, e[TILE * a + q], TILE, AT(p[TILE * a + q] + k) += d[q]);
    }
}

/* Transform LANES channels of a kernel, and write them to a row of a panel. `down` and `right`: the distances from a
   weight to the one below it and to the one on its right. */
INLINE void transform_kernel(float *w, long down, long right, float *row, long plane) {
    for (long k = 0; k < LANES; k += WIDTH) {
        lanes e[SIDE * TILE];
        for (int b = 0; b < SIDE; b++)
            LINE(kernel_transform, SIDE, AT(w + q * down + b * right + k), TILE, e[SIDE * q + b] = d[q]);
        for (int a = 0; a < TILE; a++)
            LINE(kernel_transform, SIDE, e[SIDE * a + q], TILE, AT(row + (TILE * a + q) * plane + k) = d[q]);
    }
}

/* Transform LANES input channels of `some` kernels w, from kernel `from` on, into a panel with a row for each kernel.
   c: the number of all input channels. */
FOR_EACH_CPU
static void transform_kernels_by_input(float *w, float *panel, long c, long from, long some) {
    w += from * SIDE * SIDE * c;
    for (long o = 0; o < some; o++, w += SIDE * SIDE * c) {
        for (int p = 0; p < SIDE * SIDE; p++) PREFETCH(w + (4 * SIDE * SIDE + p) * c, 0);
        transform_kernel(w, SIDE * c, c, panel + o * LANES, plane(some));
    }
}

/* Transform `some` input channels, from channel `from` on, of LANES kernels w into a panel with a row for each channel.
   c: the number of all input channels. */
FOR_EACH_CPU
static void transform_kernels_by_output(float *w, float *panel, long c, long from, long some) {
    float turned[SIDE][SIDE][LANES * LANES];
    for (long k = 0; k < some; k += LANES) {
        float *first = w + from + k;
        for (long a = 0; a < SIDE; a++)
            for (long b = 0; b < SIDE; b++)
                transpose_weights(first + (a * SIDE + b) * c, SIDE * SIDE * c, turned[a][b]);
        for (int q = 0; q < LANES; q++)
            transform_kernel(
                turned[0][0] + q * LANES, SIDE * LANES * LANES, LANES * LANES, panel + (k + q) * LANES, plane(some));
    }
}

/* The adjoint of transform_kernel: compute the gradient w of a kernel from gradients of its products (one row of each
   of PLACES matrices LANES x LANES); with `keep`, add it to w. */
FOR_EACH_CPU
static void add_kernel_gradient(float *product, float *w, long keep, long c) {
    for (long k = 0; k < LANES; k += WIDTH) {
        lanes e[SIDE * TILE];
        for (int b = 0; b < TILE; b++)
            LINE(
                kernel_transform_adjoint, TILE, AT(product + (TILE * q + b) * LANES * LANES + k), SIDE,
                e[TILE * q + b] = d[q]);
        for (int a = 0; a < SIDE; a++) {
            float *row = w + a * SIDE * c + k;
            if (keep) LINE(kernel_transform_adjoint, TILE, e[TILE * a + q], SIDE, AT(row + q * c) += d[q]);
            else LINE(kernel_transform_adjoint, TILE, e[TILE * a + q], SIDE, AT(row + q * c) = d[q]);
        }
    }
}

#endif

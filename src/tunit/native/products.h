/* Products of matrices with LANES columns: convolutions multiply panels of LANES channels. */

#ifndef TUNIT_PRODUCTS_H
#define TUNIT_PRODUCTS_H

/* out (rows, LANES) = a (rows, depth) times b (depth, LANES); with `keep`, added to out. a consists of depth / LANES
   panels of LANES columns; the distance from the start of a panel to the next is `jump`. */
void multiply(float *a, long jump, float *b, float *out, long keep, long rows, long depth);

/* out (LANES, LANES) = a (depth, LANES) transposed, times b (depth, LANES); with `keep`, added to out. */
void multiply_transposed(float *a, float *b, float *out, long keep, long depth);

#endif

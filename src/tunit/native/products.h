/* Products of matrices with LANES columns: convolutions multiply panels of LANES channels. */

#ifndef TUNIT_PRODUCTS_H
#define TUNIT_PRODUCTS_H

/* out (rows, LANES) = a (rows, depth) times b (depth, LANES), added to out if `keep`. a consists of depth / LANES
   panels with rows of LANES, which start `jump` apart. */
void multiply(float *a, long jump, float *b, float *out, long keep, long rows, long depth);

/* out (LANES, LANES) = a (depth, LANES) transposed times b (depth, LANES), added to out if `keep`. */
void multiply_transposed(float *a, float *b, float *out, long keep, long depth);

#endif

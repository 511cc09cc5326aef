/* Winograd's convolution of 4 x 4 weights with stride 2. */

#define STRIDE 2
#include "winograd.c"

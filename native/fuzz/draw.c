/* See draw.h. */
#include "draw.h"

struct draws draws;

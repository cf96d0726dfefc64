/* l25_growth.c - growth of the pool while memory fails, with every check on: see ../l25_growth.c.
 * Start: there. */
#include "../l25_growth.c"

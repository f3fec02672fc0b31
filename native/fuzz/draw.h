/* The script of a play, taken byte by byte; behind its end come zeros. */
#ifndef UN_FUZZ_DRAW_H
#define UN_FUZZ_DRAW_H

#include <stddef.h>
#include <stdint.h>

struct draws {
    const uint8_t *at;
    size_t left;
};
extern struct draws draws;

static inline uint8_t draw(void)
{
    if (draws.left == 0)
        return 0;
    draws.left--;
    return *draws.at++;
}

static inline uint32_t draw_below(uint32_t bound)
{
    return (draw() | (uint32_t)draw() << 8) % bound;
}

static inline int draw_int(void)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++)
        value = value << 8 | draw();
    return (int)value;
}

#endif

/* For the few functions of the usual packet's way that are to become one piece with their callers, so that what they
 * hand one another stays in registers. All others are inlined as the compiler likes. */
#ifndef UN_INLINE_H
#define UN_INLINE_H

#define UN_ALWAYS_INLINE static inline __attribute__((always_inline))
#define UN_NEVER_INLINE __attribute__((noinline)) /* the usual way need not save the registers that this takes */

#endif

/* For the few functions of the fast path that are to become one piece with their callers, so that what they
 * hand one another stays in registers. All others are inlined as the compiler likes. */
#ifndef UN_ATTRIBUTES_H
#define UN_ATTRIBUTES_H

#define UN_ALWAYS_INLINE static inline __attribute__((always_inline))
#define UN_NEVER_INLINE __attribute__((noinline)) /* the fast path need not save the registers that this takes */

#endif

/* A process that is stepped through a piece of code, instruction by instruction, and what is looked at after each one
 * that changed the memories it shares with us: what its sudden death there would leave behind. */
#ifndef UN_TEST_STEP_H
#define UN_TEST_STEP_H

#include <stdint.h>

/* Memories that are shared (MAP_SHARED) and watched from the next step_through on. */
void step_watch(void *start, uint64_t bytes);
void step_forget(void);

/* `look` after every instruction of act() that changed a watched memory. */
void step_through(void (*act)(void), void (*look)(void));

/* The same by a process that has our descriptors, as an engine has its keeper's; `look` also after every instruction
 * that opened or closed one. */
void step_through_sharing(void (*act)(void), void (*look)(void));

/* Bit i: descriptor i, of the first 64, is open. */
uint64_t step_descriptors(void);

/* Call check() in a process of its own that has copies of the memories as they are now; it must return. */
void step_judge(void (*check)(void));

#endif

/* The steering program of tap_steer.c in its parts, so that a test can run it on packets of its own. */
#ifndef UN_TAP_STEER_H
#define UN_TAP_STEER_H

#include <linux/bpf.h>
#include <stdint.h>

#define UN_STEER_PROGRAM_MAX 128u

struct un_steer_program {
    uint32_t count;
    struct bpf_insn code[UN_STEER_PROGRAM_MAX];
};

void un_steer_assemble(struct un_steer_program *program, uint16_t queues);
int un_steer_load(uint16_t queues); /* descriptor of the program, or -errno */

#endif

/* The XDP program that puts frames of an interface into AF_XDP sockets (native/bpf/usnet_xdp.c). It is loaded and
 * attached with libbpf, which nobody else needs.
 *
 * The part between the two `cffi` marks is read twice, as in usnet.h. */
#ifndef USNET_BPF_H
#define USNET_BPF_H

#include <stdbool.h>
#include <stdint.h>

/* cffi: begin */

/* Descriptors of the caller's: the program and its maps. */
struct usnet_bpf_program {
    int program;
    int queues;
    int station;
    int addresses;
    int served;
    int counters;
};

/* `large`: packets may come in several buffers, which takes Linux 5.18. 0, or a negative errno and *why a sentence,
 * valid until the next call. */
int usnet_bpf_load(struct usnet_bpf_program *loaded, bool large, const char **why);

/* The program runs for each frame of the interface for as long as somebody has the descriptor that this returns.
 * `native`: in the driver; otherwise in the kernel behind it. Or as above. */
int usnet_bpf_attach(int program, const char *interface, bool native, const char **why);

/* An entry of a map, as usnet_bpf's maps have them: 0 or a negative errno. */
int usnet_bpf_set(int map, const void *key, const void *value);
int usnet_bpf_get(int map, const void *key, void *value);
int usnet_bpf_remove(int map, const void *key);

/* What the program does with a frame that comes on a queue: an action (enum xdp_action), or a negative errno. Nothing
 * is attached, and no frame goes anywhere. `first`: bytes in the first of its buffers; less than all takes
 * Linux 6.18. */
int usnet_bpf_try(int program, const void *frame, uint32_t length, uint32_t first, uint32_t interface_index,
                  uint32_t queue);

/* cffi: end */

#endif

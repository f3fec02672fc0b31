/* The exported symbols of the XDP program: see usnet_bpf.h. */
#include "usnet_bpf.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/interface.h"

static const unsigned char object[] = {
#include "usnet_xdp_object.h"
};

static char sentence[512];
static char last_warning[256]; /* of libbpf, its first line */

static int warn(enum libbpf_print_level level, const char *format, va_list arguments)
{
    if (level == LIBBPF_WARN && last_warning[0] == '\0') {
        vsnprintf(last_warning, sizeof last_warning, format, arguments);
        last_warning[strcspn(last_warning, "\n")] = '\0';
    }
    return 0;
}

__attribute__((format(printf, 1, 2))) static const char *say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    return sentence;
}

static int refused(int error, const char **why)
{
    /* EACCES: a program that adds what it reads to a pointer takes CAP_PERFMON. */
    if (error == -EPERM || error == -EACCES)
        *why = say("the kernel does not load the XDP program (%s), which takes CAP_BPF, CAP_PERFMON and "
                   "CAP_NET_ADMIN: start the server as root, or give it those",
                   strerror(-error));
    else
        *why = say("the kernel does not load the XDP program: %s (%s)", strerror(-error), last_warning);
    return error;
}

/* libbpf closes its own with the object. */
static int keep(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static struct bpf_program *program_of(struct bpf_object *opened)
{
    return bpf_object__find_program_by_name(opened, "usnet_xdp");
}

/* Before it is loaded. Of constants there is one: usnet_xdp_large. */
static int set_large(struct bpf_object *opened)
{
    const uint8_t large = 1;
    struct bpf_map *constants = bpf_object__find_map_by_name(opened, ".rodata");
    int error = bpf_map__set_initial_value(constants, &large, sizeof large);
    return error ? error : bpf_program__set_flags(program_of(opened), BPF_F_XDP_HAS_FRAGS);
}

static int map_of(struct bpf_object *opened, const char *name)
{
    return keep(bpf_object__find_map_fd_by_name(opened, name));
}

static void take(struct bpf_object *opened, struct usnet_bpf_program *loaded)
{
    *loaded = (struct usnet_bpf_program){
        .program = keep(bpf_program__fd(program_of(opened))),
        .queues = map_of(opened, "queues"),
        .station = map_of(opened, "station"),
        .addresses = map_of(opened, "addresses"),
        .served = map_of(opened, "served"),
        .counters = map_of(opened, "counters"),
    };
}

int usnet_bpf_load(struct usnet_bpf_program *loaded, bool large, const char **why)
{
    last_warning[0] = '\0';
    libbpf_set_print(warn);
    struct bpf_object *opened = bpf_object__open_mem(object, sizeof object, NULL);
    if (!opened)
        return refused(-errno, why);
    int error = large ? set_large(opened) : 0;
    if (error == 0)
        error = bpf_object__load(opened);
    if (error == 0)
        take(opened, loaded);
    bpf_object__close(opened);
    return error == 0 ? 0 : refused(error, why);
}

int usnet_bpf_attach(int program, const char *interface, bool native, const char **why)
{
    LIBBPF_OPTS(bpf_link_create_opts, options, .flags = native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);
    struct ifreq found;
    int link = un_interface_ask(interface, SIOCGIFINDEX, &found);
    if (link == 0)
        link = bpf_link_create(program, found.ifr_ifindex, BPF_XDP, &options);
    if (link >= 0)
        return link;
    switch (link) {
    case -ENODEV:
        *why = say("there is no interface %s", interface);
        break;
    case -EBUSY:
    case -EEXIST:
        *why = say("another XDP program is attached to %s: stop its owner, or ip link set %s xdp off", interface,
                   interface);
        break;
    case -EOPNOTSUPP:
        *why = say("the driver of %s has no native XDP", interface);
        break;
    case -ERANGE:
        *why = say("the driver of %s takes no XDP program at this MTU, its own or its peer's", interface);
        break;
    case -EPERM:
        return refused(link, why);
    default:
        *why = say("the XDP program cannot be attached to %s: %s", interface, strerror(-link));
    }
    return link;
}

int usnet_bpf_set(int map, const void *key, const void *value)
{
    return bpf_map_update_elem(map, key, value, BPF_ANY);
}

int usnet_bpf_get(int map, const void *key, void *value)
{
    return bpf_map_lookup_elem(map, key, value);
}

int usnet_bpf_remove(int map, const void *key)
{
    return bpf_map_delete_elem(map, key);
}

int usnet_bpf_try(int program, const void *frame, uint32_t length, uint32_t first, uint32_t interface_index,
                  uint32_t queue)
{
    struct xdp_md context = {.data_end = first, .ingress_ifindex = interface_index, .rx_queue_index = queue};
    LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = length, .ctx_in = &context,
                .ctx_size_in = sizeof context, .repeat = 1);
    int error = bpf_prog_test_run_opts(program, &run);
    return error ? error : (int)run.retval;
}

/* Stacks that are not made: what usnet_stack_bytes and usnet_stack_create refuse, and what they say of it. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "usnet.h"

#define SIZE(text) text " must lie between 1 and 268435456"
#define NEIGHBOURS "neighbours must be a power of two between 8 and 65536"
#define FRAME_BYTES "frame_bytes must be a multiple of 64 between 256 and 32768"
#define RATES "resets_per_s and icmp_per_s must not be 0"
#define PORTS "port_low must lie between 1 and port_high"
#define LIMITS "rcv_limit and snd_limit must lie between 1 and 1073741824"
#define FIELD(name) #name, offsetof(struct usnet_stack_options, name), sizeof(((struct usnet_stack_options *)0)->name)

enum { SIZE_MAX_ALLOWED = 1 << 28, LIMIT_MAX = 1 << 30, SLOTS_MAX = 1 << 20, CONGESTION_NONE = 200 };

struct value {
    const char *name;
    size_t offset;
    size_t bytes;
    uint32_t value;
    const char *why; /* NULL: it is taken */
};

static const struct value values[] = {
    {FIELD(conn_max), 0, SIZE("conn_max")},
    {FIELD(conn_max), SIZE_MAX_ALLOWED + 1u, SIZE("conn_max")},
    {FIELD(conn_max), UINT32_MAX, SIZE("conn_max")},
    {FIELD(conn_max), 1, NULL},
    {FIELD(conn_max), SIZE_MAX_ALLOWED, NULL},
    {FIELD(frames), 0, SIZE("frames")},
    {FIELD(frames), SIZE_MAX_ALLOWED + 1u, SIZE("frames")},
    {FIELD(frames), SIZE_MAX_ALLOWED, NULL},
    {FIELD(frame_bytes), 0, FRAME_BYTES},
    {FIELD(frame_bytes), 192, FRAME_BYTES},
    {FIELD(frame_bytes), 300, FRAME_BYTES},
    {FIELD(frame_bytes), 32768 + 64, FRAME_BYTES},
    {FIELD(frame_bytes), 256, NULL},
    {FIELD(frame_bytes), 32768, NULL},
    {FIELD(sents), 0, SIZE("sents")},
    {FIELD(sents), SIZE_MAX_ALLOWED + 1u, SIZE("sents")},
    {FIELD(sents), SIZE_MAX_ALLOWED, NULL},
    {FIELD(neighbours), 0, NEIGHBOURS},
    {FIELD(neighbours), 4, NEIGHBOURS},
    {FIELD(neighbours), 24, NEIGHBOURS},
    {FIELD(neighbours), 1u << 17, NEIGHBOURS},
    {FIELD(neighbours), 1u << 16, NULL},
    {FIELD(udp_max), (1u << 16) + 1, "udp_max must not exceed 65536"},
    {FIELD(udp_max), 1u << 16, NULL},
    {FIELD(udp_max), 0, NULL},
    {FIELD(time_wait_max), 0, "time_wait_max must not be 0"},
    {FIELD(resets_per_s), 0, RATES},
    {FIELD(icmp_per_s), 0, RATES},
    {FIELD(port_low), 0, PORTS},
    {FIELD(port_high), 1, PORTS}, /* below what port_low is */
    {FIELD(rcv_limit), 0, LIMITS},
    {FIELD(rcv_limit), LIMIT_MAX + 1u, LIMITS},
    {FIELD(rcv_limit), LIMIT_MAX, NULL},
    {FIELD(snd_limit), 0, LIMITS},
    {FIELD(snd_limit), LIMIT_MAX + 1u, LIMITS},
    {FIELD(snd_limit), LIMIT_MAX, NULL},
    {FIELD(congestion), CONGESTION_NONE, "congestion must be the index of a congestion control"},
};

static const struct usnet_link good_link = {.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .slots = 64};

static struct usnet_stack_options good_options(void)
{
    struct usnet_stack_options options;
    usnet_stack_defaults(&options, 4);
    options.seed = 1;
    return options;
}

static struct usnet_stack_options options_with(const struct value *value)
{
    struct usnet_stack_options options = good_options();
    memcpy((uint8_t *)&options + value->offset, &value->value, value->bytes); /* little-endian: the lowest bytes */
    return options;
}

static void check_why(const struct value *value, const char *why)
{
    bool is_same = value->why ? why && strcmp(why, value->why) == 0 : !why;
    if (!is_same)
        fprintf(stderr, "%s = %u: %s\n", value->name, value->value, why ? why : "is taken");
    CHECK(is_same);
}

static void what_makes_no_sense_is_refused_and_said(void)
{
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        const char *why = "nothing was said";
        struct usnet_stack *stack = NULL;
        struct usnet_stack_options options = options_with(&values[i]);
        int64_t bytes = usnet_stack_bytes(&options, &why);
        check_why(&values[i], why);
        CHECK(values[i].why ? bytes == -EINVAL : bytes > 0);
        if (!values[i].why)
            continue; /* some of them are larger than this machine */
        CHECK_EQ(usnet_stack_create(&stack, &options, &good_link, NULL, 0), -EINVAL);
        CHECK(stack == NULL);
    }
}

/* The last congestion control there is, and the first there is not. */
static void congestion_controls_are_counted(void)
{
    struct usnet_stack_options options = good_options();
    const char *why;
    while (usnet_congestion_name(options.congestion + 1u))
        options.congestion++;
    CHECK(usnet_stack_bytes(&options, &why) > 0);
    options.congestion++;
    CHECK_EQ(usnet_stack_bytes(&options, &why), -EINVAL);
}

static void a_link_has_a_power_of_two_of_slots(void)
{
    static const uint32_t wrong[] = {0, 3, 63, SLOTS_MAX + 1, 2 * SLOTS_MAX, UINT32_MAX}, right[] = {1, 2, 64, 1024};
    struct usnet_stack_options options = good_options();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct usnet_stack *stack = NULL;
        struct usnet_link link = good_link;
        link.slots = wrong[i];
        CHECK_EQ(usnet_stack_create(&stack, &options, &link, NULL, 0), -EINVAL);
        CHECK(stack == NULL);
    }
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        struct usnet_stack *stack = NULL;
        struct usnet_link link = good_link;
        link.slots = right[i];
        CHECK_EQ(usnet_stack_create(&stack, &options, &link, NULL, 0), 0);
        CHECK(usnet_stack_check(stack) == NULL);
        usnet_stack_destroy(stack);
    }
}

/* Memory of the caller's: large enough, aligned, zeros; and for adoption with a stack in it. */
static void memory_has_to_fit(void)
{
    enum { PAGE = 4096 };
    struct usnet_stack *stack = NULL, *other = NULL;
    struct usnet_stack_options options = good_options();
    const char *why;
    int64_t bytes = usnet_stack_bytes(&options, &why);
    uint64_t whole = ((uint64_t)bytes + 2 * PAGE - 1) / PAGE * PAGE;
    uint8_t *memory = aligned_alloc(PAGE, whole);
    CHECK(bytes > 0 && memory);
    memset(memory, 0, whole);
    CHECK_EQ(usnet_stack_adopt(&stack, &good_link, memory, whole), -EINVAL); /* nothing is in it */
    CHECK_EQ(usnet_stack_create(&stack, &options, &good_link, memory, (uint64_t)bytes - 1), -EINVAL);
    CHECK_EQ(usnet_stack_create(&stack, &options, &good_link, memory + 64, whole - 64), -EINVAL);
    CHECK(stack == NULL);
    CHECK_EQ(usnet_stack_create(&stack, &options, &good_link, memory, (uint64_t)bytes), 0);
    CHECK_EQ(usnet_stack_adopt(&other, &good_link, memory, (uint64_t)bytes - 1), -EINVAL);
    CHECK_EQ(usnet_stack_adopt(&other, &(struct usnet_link){.mtu = 1500, .slots = 3}, memory, (uint64_t)bytes),
             -EINVAL);
    CHECK(other == NULL);
    usnet_stack_destroy(stack);
    CHECK_EQ(usnet_stack_adopt(&other, &good_link, memory, (uint64_t)bytes), 0);
    usnet_stack_destroy(other);
    free(memory);
}

int main(void)
{
    RUN(what_makes_no_sense_is_refused_and_said);
    RUN(congestion_controls_are_counted);
    RUN(a_link_has_a_power_of_two_of_slots);
    RUN(memory_has_to_fit);
    return 0;
}

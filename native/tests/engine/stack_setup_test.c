/* The lists of addresses and listeners that an engine over a stack is given: taken as they are meant, or refused. */
#include "engine/stack_setup.h"

#include <errno.h>
#include <string.h>

#include "check.h"

static struct un_stack_setup setup;

static int addresses(const char *text)
{
    memset(&setup, 0, sizeof setup);
    return un_stack_setup_addresses(&setup, text);
}

static int listeners(const char *text)
{
    memset(&setup, 0, sizeof setup);
    return un_stack_setup_listeners(&setup, text);
}

static void addresses_of_both_families(void)
{
    CHECK_EQ(addresses("10.0.0.1/24,fd00::1/64"), 0);
    CHECK_EQ(setup.address_count, 2);
    CHECK(un_ip_is_v4(&setup.addresses[0].ip) && !un_ip_is_v4(&setup.addresses[1].ip));
    CHECK_EQ(memcmp(un_ip_v4(&setup.addresses[0].ip), "\x0a\0\0\x01", 4), 0);
    CHECK_EQ(setup.addresses[0].prefix, 24);
    CHECK_EQ(setup.addresses[1].ip.bytes[15], 1);
    CHECK_EQ(setup.addresses[1].prefix, 64);
}

static void listeners_of_both_families(void)
{
    CHECK_EQ(listeners("10.0.0.1:7000,[::]:80,0.0.0.0:65535"), 0);
    CHECK_EQ(setup.listener_count, 3);
    CHECK_EQ(setup.listeners[0].port, 7000);
    CHECK(un_ip_is_any(&setup.listeners[1].ip) && !un_ip_is_v4(&setup.listeners[1].ip));
    CHECK(un_ip_is_any(&setup.listeners[2].ip) && un_ip_is_v4(&setup.listeners[2].ip));
    CHECK_EQ(setup.listeners[2].port, 65535);
    CHECK_EQ(listeners(""), 0); /* a server that drains listens nowhere */
}

static void gateways_of_both_families(void)
{
    memset(&setup, 0, sizeof setup);
    CHECK_EQ(un_stack_setup_gateways(&setup, ""), 0);
    CHECK_EQ(setup.gateway_count, 0);
    CHECK_EQ(un_stack_setup_gateways(&setup, "10.0.0.254,fd00::fe"), 0);
    CHECK_EQ(setup.gateway_count, 2);
    CHECK_EQ(un_stack_setup_gateways(&setup, "10.0.0.1"), -EINVAL); /* one too many */
}

static void what_makes_no_sense_is_refused(void)
{
    static const char *const bad_addresses[] = {
        "", "10.0.0.1", "10.0.0.1/33", "fd00::1/129", "10.0.0/24", "10.0.0.1/x", "10.0.0.1/", ",10.0.0.1/24",
        "10.0.0.1/24,,10.0.0.2/24",
        "10.0.0.1/0000000000000000000000000000000000000000000000000000000000000000000024"};
    static const char *const bad_listeners[] = {":80",     "10.0.0.1", "10.0.0.1:0", "10.0.0.1:65536",
                                                "[::1:80", "10.0.0.1:"};
    for (size_t i = 0; i < sizeof bad_addresses / sizeof *bad_addresses; i++)
        CHECK_EQ(addresses(bad_addresses[i]), -EINVAL);
    for (size_t i = 0; i < sizeof bad_listeners / sizeof *bad_listeners; i++)
        CHECK_EQ(listeners(bad_listeners[i]), -EINVAL);
}

static void too_many_are_refused(void)
{
    char text[20 * 16] = "";
    for (int i = 1; i <= 17; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s10.0.0.%d/24", i > 1 ? "," : "", i);
    CHECK_EQ(addresses(text), -EINVAL);
}

int main(void)
{
    RUN(addresses_of_both_families);
    RUN(listeners_of_both_families);
    RUN(gateways_of_both_families);
    RUN(what_makes_no_sense_is_refused);
    RUN(too_many_are_refused);
    return 0;
}

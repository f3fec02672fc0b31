/* The scripts that fuzzing found worth keeping, played once each: `corpus_test TARGET FILE`.
 *
 * FILE is native/fuzz/corpus/TARGET.txt, which `tools/fuzz_corpus.py pack` writes: a script a line, in hexadecimal
 * digits. What was ever found stays found without a fuzzer, and a fuzzer begins where the last one stopped. */
#include <stdio.h>
#include <string.h>

#include "../tests/check.h"
#include "exchange.h"
#include "frames.h"
#include "hostile.h"
#include "options.h"
#include "sockets.h"
#include "wire.h"

enum { SCRIPT_MAX = 3000, LINE_MAX = 2 * SCRIPT_MAX + 2 };

static const struct {
    const char *name;
    void (*run)(const uint8_t *script, size_t length);
} targets[] = {
    {"exchange", exchange_run}, {"frames", frames_run}, {"options", options_run},
    {"sockets", sockets_run},   {"wire", wire_run},     {"worker", hostile_run},
};

static uint8_t digit(char letter)
{
    const char *digits = "0123456789abcdef", *found = strchr(digits, letter);
    CHECK(letter != '\0' && found);
    return (uint8_t)(found - digits);
}

/* A line of the file to bytes; how many. */
static size_t parse(const char *line, uint8_t *script)
{
    size_t digits = strcspn(line, "\n");
    CHECK(line[digits] == '\n' && digits % 2 == 0);
    for (size_t i = 0; i < digits; i += 2)
        script[i / 2] = (uint8_t)(digit(line[i]) << 4 | digit(line[i + 1]));
    return digits / 2;
}

static void play(const char *path, void (*run)(const uint8_t *script, size_t length))
{
    char line[LINE_MAX];
    uint8_t script[SCRIPT_MAX];
    uint32_t count = 0;
    FILE *file = fopen(path, "r");
    CHECK(file);
    for (; fgets(line, sizeof line, file); count++)
        run(script, parse(line, script));
    fclose(file);
    CHECK(count > 0);
    printf("%u scripts\n", count);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        if (strcmp(targets[i].name, argv[1]) != 0)
            continue;
        play(argv[2], targets[i].run);
        return 0;
    }
    fprintf(stderr, "corpus_test: no target %s\n", argv[1]);
    return 2;
}

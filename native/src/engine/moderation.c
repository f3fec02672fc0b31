/* See moderation.h. */
#include "engine/moderation.h"

#include <string.h>

/* A window that went on for much longer says nothing of this millisecond. */
static void count_busy(struct un_moderation *moderation, uint64_t now_ns)
{
    uint64_t took_ns = now_ns - moderation->began_ns;
    if (took_ns < UN_MODERATION_WINDOW_NS)
        return;
    moderation->busy = took_ns < 2 * UN_MODERATION_WINDOW_NS ? moderation->different : 0;
    moderation->different = 0;
    memset(moderation->heard, 0, sizeof moderation->heard);
    moderation->began_ns = now_ns;
}

static bool has_enough(const struct un_moderation *moderation)
{
    return moderation->turn >= moderation->busy / UN_MODERATION_PART;
}

static bool begin_wait(struct un_moderation *moderation, uint64_t now_ns)
{
    count_busy(moderation, now_ns);
    if (moderation->turn == 0 || moderation->busy < UN_MODERATION_BUSY || has_enough(moderation))
        return false;
    if (moderation->skip > 0) {
        moderation->skip--;
        return false;
    }
    moderation->first = moderation->turn;
    moderation->until_ns = now_ns + UN_MODERATION_NS;
    return true;
}

static void end_wait(struct un_moderation *moderation)
{
    if (moderation->turn > moderation->first)
        moderation->pause /= 2;
    else if (moderation->pause < UN_MODERATION_PAUSE_MAX)
        moderation->pause = 2 * moderation->pause + 1;
    moderation->skip = moderation->pause;
    moderation->until_ns = 0;
}

bool un_moderation_waits(struct un_moderation *moderation, uint64_t now_ns)
{
    if (moderation->until_ns == 0)
        return begin_wait(moderation, now_ns);
    if (now_ns < moderation->until_ns && !has_enough(moderation))
        return true;
    end_wait(moderation);
    return false;
}

/* See why.h. */
#include "device/why.h"

#include <stdarg.h>
#include <stdio.h>

const char *un_why(const char *format, ...)
{
    static _Thread_local char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return text;
}

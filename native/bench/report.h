/* The result of a run, for a person or as one JSON object. */
#ifndef REPORT_H
#define REPORT_H

#include "client.h"

void report_print(const struct run *run);

#endif

/* What a process of a measurement sets for itself. */
#ifndef PROCESS_H
#define PROCESS_H

/* Runs on this core alone from now on. 0 or -errno. */
int process_pin(int core);

/* As many descriptors as the hard limit allows: the usual soft limit of 1,024 is for programs that use select. */
void process_raise_descriptor_limit(void);

#endif

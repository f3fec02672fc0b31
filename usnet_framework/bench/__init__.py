"""What `usnet-bench` runs: servers side by side under the same load, kills, memory, scrapes.

machine   cores, steal time, processor
network   where server and load meet: the loopback device, or a veth pair between two network namespaces (netns)
servers   the servers that are compared, how each is started and known to be ready
load      the load generator `usnet-load`
rounds    the order of runs, and what many runs say together
compare, kill, memory, scrape    one measurement each
scale     one more, over several queues; scalepoints, scaleplaces, … are its parts
peers, handlers    what the servers serve: an echo
"""

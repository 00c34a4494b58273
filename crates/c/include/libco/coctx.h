// libco's context switch, for programs that include it without need: crore has its own.
#ifndef CRORE_COCTX_H
#define CRORE_COCTX_H
#endif

// libco's inner header, for programs that include it without need: there is nothing inside.
#ifndef CRORE_CO_ROUTINE_INNER_H
#define CRORE_CO_ROUTINE_INNER_H

#include "co_routine.h"

#endif

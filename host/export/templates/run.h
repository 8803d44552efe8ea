@HEADER@
// Runs a command queue that is already in the device's memory. For bare metal, or any program that has mapped the registers.

#ifndef TAILRACE_RUN_H
#define TAILRACE_RUN_H

#include "tailrace.h"
#include "tailrace_constants.h"

// Whether the registers are those of a device that this header was written for.
static inline int tailrace_is_present(const volatile tailrace_t *device)
{
    return device->MAGIC == TAILRACE_MAGIC && device->ISA_VERSION >> 16 == TAILRACE_ISA_VERSION >> 16;
}

// Start `length` commands at the address `queue` (a multiple of TAILRACE_ADDRESS_ALIGNMENT). Arguments of the program are
// written to ARGUMENT_0 and following before.
static inline void tailrace_start(volatile tailrace_t *device, uint64_t queue, uint32_t length)
{
    (void)device->AP_CTRL;  // clears done
    device->QUEUE_ADDRESS_LO = (uint32_t)queue;
    device->QUEUE_ADDRESS_HI = (uint32_t)(queue >> 32);
    device->QUEUE_LENGTH = length;
    device->AP_CTRL = TAILRACE__AP_CTRL__START_bm;
}

// Wait until nothing runs. Returns TAILRACE_NONE, or why the run stopped; ERROR_COMMAND and ERROR_ADDRESS then say where. The
// watchdog ends a run whose memory does not answer, so that this returns.
static inline uint32_t tailrace_wait(volatile tailrace_t *device)
{
    while (!(device->AP_CTRL & TAILRACE__AP_CTRL__IDLE_bm))
        ;
    return device->ERROR_CODE;
}

#endif

@HEADER@
// Runs a command queue that is already in the device's memory. For bare metal, or any program that has mapped the registers.

#ifndef @MACRO@_RUN_H
#define @MACRO@_RUN_H

#include "@MODULE@.h"
#include "@MODULE@_constants.h"

// Whether the registers are those of a device that this header was written for.
static inline int @MODULE@_is_present(const volatile @MODULE@_t *device)
{
    return device->MAGIC == @MACRO@_MAGIC && device->ISA_VERSION >> 16 == @MACRO@_ISA_VERSION >> 16;
}

// Start `length` commands at the address `queue` (a multiple of @MACRO@_ADDRESS_ALIGNMENT). Arguments of the program are
// written to ARGUMENT_0 and following before. Addresses count from BASE, a multiple of @MACRO@_PAGE_BYTES, which stays as it is.
static inline void @MODULE@_start(volatile @MODULE@_t *device, uint64_t queue, uint32_t length)
{
    (void)device->AP_CTRL;  // clears done
    device->QUEUE_ADDRESS_LO = (uint32_t)queue;
    device->QUEUE_ADDRESS_HI = (uint32_t)(queue >> 32);
    device->QUEUE_LENGTH = length;
    device->AP_CTRL = @MACRO@__AP_CTRL__START_bm;
}

// Wait until nothing runs. Returns @MACRO@_NONE, or why the run stopped; ERROR_COMMAND and ERROR_ADDRESS then say where. The
// watchdog ends a run whose memory does not answer, so that this returns.
static inline uint32_t @MODULE@_wait(volatile @MODULE@_t *device)
{
    while (!(device->AP_CTRL & @MACRO@__AP_CTRL__IDLE_bm))
        ;
    return device->ERROR_CODE;
}

#endif

// Behind the kernels of a file: what the driver finds in the compiled library.
//
// The driver appends GPUNN_KERNELS with one GPUNN_KERNEL(name, threads) for each kernel. Arguments
// come as CUDA takes them, an array of pointers to values. The signature has one word for each
// parameter: kind and size as in NumPy's type names, "*" first for a pointer, "*v0" for any.

#pragma once

#include <stddef.h>

namespace simulator {

struct Code {
    char text[4];
};

template <typename T> struct Type { static constexpr Code code = {"v0"}; };
#define GPUNN_TYPE(T, name) template <> struct Type<T> { static constexpr Code code = {name}; };
GPUNN_TYPE(bool, "b1")
GPUNN_TYPE(char, "i1")
GPUNN_TYPE(signed char, "i1")
GPUNN_TYPE(unsigned char, "u1")
GPUNN_TYPE(short, "i2")
GPUNN_TYPE(unsigned short, "u2")
GPUNN_TYPE(int, "i4")
GPUNN_TYPE(unsigned, "u4")
GPUNN_TYPE(long, "i8")
GPUNN_TYPE(unsigned long, "u8")
GPUNN_TYPE(long long, "i8")
GPUNN_TYPE(unsigned long long, "u8")
GPUNN_TYPE(float, "f4")
GPUNN_TYPE(double, "f8")
#define GPUNN_VECTOR_TYPE(name, base) \
    template <> struct Type<name##2> : Type<base> {}; \
    template <> struct Type<name##4> : Type<base> {};
GPUNN_VECTOR_TYPE(float, float)
GPUNN_VECTOR_TYPE(double, double)
GPUNN_VECTOR_TYPE(int, int)
GPUNN_VECTOR_TYPE(uint, unsigned)
GPUNN_VECTOR_TYPE(uchar, unsigned char)
GPUNN_VECTOR_TYPE(ushort, unsigned short)
GPUNN_VECTOR_TYPE(longlong, long long)
GPUNN_VECTOR_TYPE(ulonglong, unsigned long long)

template <typename T> struct Plain { typedef T type; };
template <typename T> struct Plain<const T> { typedef T type; };

template <typename T> struct Parameter {
    static void write(char *to) { memcpy(to, Type<T>::code.text, 3); }
};
template <typename T> struct Parameter<T *> {
    static void write(char *to)
    {
        *to = '*';
        memcpy(to + 1, Type<typename Plain<T>::type>::code.text, 3);
    }
};

template <size_t... I> struct Indices {};
template <size_t N, size_t... I> struct Count : Count<N - 1, N - 1, I...> {};
template <size_t... I> struct Count<0, I...> { typedef Indices<I...> type; };

template <typename F, F kernel> struct Entry;
template <typename... P, void (*kernel)(P...)> struct Entry<void (*)(P...), kernel> {
    template <size_t... I> static void call(void **arguments, Indices<I...>)
    {
        kernel(*(P *)arguments[I]...);
    }
    static void run(void **arguments) { call(arguments, typename Count<sizeof...(P)>::type()); }

    static const char *signature()
    {
        static char text[5 * sizeof...(P) + 1];
        char *to = text;
        (void)to;
        ((Parameter<P>::write(to), to += strlen(to), *to++ = ' '), ...);
        *to = 0;
        return text;
    }
};

}  // namespace simulator

#define GPUNN_EXPORT extern "C" __attribute__((visibility("default")))
#define GPUNN_KERNEL(name, threads)                                     \
    {#name, simulator::Entry<decltype(&name), &name>::signature(), threads, \
     simulator::Entry<decltype(&name), &name>::run},

static const simulator::Kernel gpunn_table[] = {GPUNN_KERNELS};

GPUNN_EXPORT int gpunn_kernel(int number, const char **name, const char **signature, int *threads)
{
    if (number >= (int)(sizeof gpunn_table / sizeof *gpunn_table))
        return 0;
    *name = gpunn_table[number].name;
    *signature = gpunn_table[number].signature;
    *threads = gpunn_table[number].threads;
    return 1;
}

GPUNN_EXPORT int gpunn_launch(simulator::Launch *launch)
{
    return simulator::run_launch(*launch, gpunn_table[launch->kernel]);
}

// What the compiler's checks of kernel code call (-fsanitize): CUDA reports a misaligned address
// too late to say where, and a host would end the process.

namespace simulator {

struct Finding {
    const char *file;
    uint32_t line, column;
    const struct {
        uint16_t kind, info;
        char name[1];
    } *type;
    unsigned char log_alignment;
};

}  // namespace simulator

extern "C" __attribute__((used)) void __ubsan_handle_type_mismatch_v1(
    simulator::Finding *found, uintptr_t address)
{
    const simulator::Place place = {found->file, (int)found->line};
    if (!address)
        simulator::fail("a null pointer is used (%s:%d)", GPUNN_AT(place));
    simulator::fail("%s at an address that is no multiple of %d (%s:%d)", found->type->name,
                    1 << found->log_alignment, GPUNN_AT(place));
}

extern "C" __attribute__((used)) void __ubsan_handle_divrem_overflow(
    simulator::Finding *found, uintptr_t, uintptr_t)
{
    const simulator::Place place = {found->file, (int)found->line};
    simulator::fail("an integer is divided by 0 (%s:%d)", GPUNN_AT(place));
}

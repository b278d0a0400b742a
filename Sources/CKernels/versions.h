// Compiles a function once for each width of vectors.
#ifndef QTOOLS_CKERNELS_VERSIONS_H
#define QTOOLS_CKERNELS_VERSIONS_H

#if defined(__x86_64__)
#define VERSIONS \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VERSIONS
#endif
/// For what functions with several versions call: becomes part of each.
#define INLINE static inline __attribute__((always_inline))

#endif

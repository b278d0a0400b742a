// Memory for packed constants: many pieces in few large runs of pages, so that a whole network takes a few
// entries of the processor's table of pages.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

enum {
  buckets = 1024,
  least_shared = 16 << 10,  // smaller pieces are not worth the look
  line = 64,
  page = 2 << 20,        // what Linux calls a huge page
  slab_bytes = 32 << 20  // untouched pages cost nothing
};

/// A run of pages from which pieces are cut one after the other.
struct slab {
  void *base;
  size_t bytes, used;
  ptrdiff_t pieces;  // still in use
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static slab *current;

static void release(slab *slab) {
  munmap(slab->base, slab->bytes);
  free(slab);
}

static slab *open_slab(size_t bytes) {
  slab *result = calloc(1, sizeof *result);
  if (result == NULL) {
    return NULL;
  }
  result->bytes = bytes;
  // One page more, so that the pieces can start at a whole one.
  void *base = mmap(NULL, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    free(result);
    return NULL;
  }
  const uintptr_t start = ((uintptr_t)base + page - 1) & ~(uintptr_t)(page - 1);
  const size_t before = start - (uintptr_t)base;
  if (before > 0) {
    munmap(base, before);
  }
  munmap((void *)(start + bytes), page - before);
  result->base = (void *)start;
  madvise(result->base, bytes, MADV_HUGEPAGE);  // a wish
  return result;
}

void *qdnn_internal_allocate(size_t bytes, slab **owner) {
  if (bytes > SIZE_MAX / 2) {
    return NULL;
  }
  const size_t size = bytes == 0 ? line : (bytes + line - 1) & ~(size_t)(line - 1);
  pthread_mutex_lock(&lock);
  if (current == NULL || current->bytes - current->used < size) {
    const size_t wanted = size > slab_bytes ? (size + page - 1) & ~(size_t)(page - 1) : slab_bytes;
    slab *next = open_slab(wanted);
    if (next == NULL) {
      pthread_mutex_unlock(&lock);
      return NULL;
    }
    if (current != NULL) {
      if (current->pieces == 0) {
        release(current);
      }
    }
    current = next;
  }
  void *piece = (char *)current->base + current->used;
  current->used += size;
  current->pieces += 1;
  *owner = current;
  pthread_mutex_unlock(&lock);
  return piece;
}

void qdnn_internal_discard(const void *start, size_t bytes) {
  const uintptr_t unit = (uintptr_t)sysconf(_SC_PAGESIZE);
  const uintptr_t first = ((uintptr_t)start + unit - 1) / unit * unit;
  const uintptr_t end = ((uintptr_t)start + bytes) / unit * unit;
  if (first < end) {
    madvise((void *)first, end - first, MADV_DONTNEED);
  }
}

void qdnn_internal_free(slab *owner) {
  if (owner == NULL) {
    return;
  }
  pthread_mutex_lock(&lock);
  owner->pieces -= 1;
  if (owner->pieces == 0) {
    if (owner == current) {
      current = NULL;
    }
    release(owner);
  }
  pthread_mutex_unlock(&lock);
}

struct shared_piece {
  void *bytes;
  size_t count;
  uint64_t hash;
  slab *owner;
  ptrdiff_t users;
  shared_piece *next;
};

static shared_piece *shared[buckets];

/// Of some of the bytes: what is alike is compared in full before it counts as the same.
static uint64_t sampled_hash(const unsigned char *bytes, size_t count) {
  uint64_t hash = 0xcbf29ce484222325u ^ count;
  const size_t step = count / 256 < sizeof(uint64_t) ? sizeof(uint64_t) : count / 256;
  for (size_t place = 0; place + sizeof(uint64_t) <= count; place += step) {
    uint64_t word;
    memcpy(&word, bytes + place, sizeof word);
    hash = (hash ^ word) * 0x100000001b3u;
    hash ^= hash >> 29;
  }
  return hash;
}

bool qdnn_internal_share(void **storage, size_t bytes, slab **owner, shared_piece **record) {
  *record = NULL;
  if (bytes < least_shared) {
    return false;
  }
  const uint64_t hash = sampled_hash(*storage, bytes);
  shared_piece **bucket = &shared[hash % buckets];
  pthread_mutex_lock(&lock);
  for (shared_piece *known = *bucket; known != NULL; known = known->next) {
    if (known->hash != hash || known->count != bytes || memcmp(known->bytes, *storage, bytes) != 0) {
      continue;
    }
    known->users += 1;
    // Cut last, the piece can be cut again, as zeros; the other ones in the slab keep it open.
    const size_t size = (bytes + line - 1) & ~(size_t)(line - 1);
    if ((char *)*storage + size == (char *)(*owner)->base + (*owner)->used) {
      memset(*storage, 0, bytes);
      (*owner)->used -= size;
    }
    slab *left = *owner;
    *storage = known->bytes;
    *owner = known->owner;
    *record = known;
    pthread_mutex_unlock(&lock);
    qdnn_internal_free(left);
    return true;
  }
  shared_piece *made = malloc(sizeof *made);
  if (made != NULL) {
    *made = (shared_piece){*storage, bytes, hash, *owner, 1, *bucket};
    *bucket = made;
    *record = made;
  }
  pthread_mutex_unlock(&lock);
  return false;
}

void qdnn_internal_unshare(shared_piece *record) {
  if (record == NULL) {
    return;
  }
  pthread_mutex_lock(&lock);
  record->users -= 1;
  const bool is_last = record->users == 0;
  if (is_last) {
    shared_piece **place = &shared[record->hash % buckets];
    while (*place != record) {
      place = &(*place)->next;
    }
    *place = record->next;
  }
  pthread_mutex_unlock(&lock);
  if (is_last) {
    qdnn_internal_free(record->owner);
    free(record);
  }
}

void *qdnn_constant_allocate(size_t bytes, void **owner) {
  slab *run = NULL;
  void *piece = qdnn_internal_allocate(bytes, &run);
  *owner = run;
  return piece;  // zero: as the system gave it, or cleared when it was given back
}

void qdnn_constant_free(void *owner) { qdnn_internal_free(owner); }

void *qdnn_pages_allocate(size_t bytes) {
  if (bytes < 2 * (size_t)page) {
    return bytes > SIZE_MAX - line ? NULL : aligned_alloc(line, bytes == 0 ? line : (bytes + line - 1) & ~(size_t)(line - 1));
  }
  if (bytes > SIZE_MAX - page) {
    return NULL;
  }
  void *result = aligned_alloc(page, (bytes + page - 1) & ~(size_t)(page - 1));
  if (result != NULL) {
    madvise(result, bytes, MADV_HUGEPAGE);
  }
  return result;
}

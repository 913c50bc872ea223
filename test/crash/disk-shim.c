/*
 * Preloaded into a broker: tells in a journal what it does to the files of one directory, in order, and makes writing
 * fail while a control file asks for it. Calls that have nothing to do with that directory pass through.
 *
 *   MANTOU_SHIM_DIR      the directory, absolute and without links
 *   MANTOU_SHIM_JOURNAL  the journal, outside of it
 *   MANTOU_SHIM_CONTROL  while this file exists, writing fails: with "n" as first byte for want of space (ENOSPC), with
 *                        "i" by an I/O error (EIO), syncs too; with "s" only syncs do
 *   MANTOU_SHIM_SYNC_MS  syncs take so much longer
 *
 * A record of the journal, integers little-endian, written by one write(2) under a lock that also covers the call itself:
 *
 *   kind u8 | pathLength u16 | otherLength u16 | offset u64 | length u32 | path | other path | data
 *
 *   W write    offset, length, data        T truncate  offset is the new size      U unlink    R rename   other is the new path
 *   C create   by open(2), not there before
 *   B sync begins    offset is a number of this sync       E sync ends well     F sync failed       both with that number
 *
 * Syncs run outside of the lock, so writes may stand between B and E: they are not covered. What is not in the journal was
 * not done before the process was killed, or nobody can have been told of it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char dir[PATH_MAX];
static size_t dir_length;
static char control[PATH_MAX];
static int journal = -1;
static uint64_t last_sync;
static useconds_t sync_us;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long raw_write(int fd, const void *bytes, size_t length) { return syscall(SYS_write, fd, bytes, length); }

__attribute__((constructor)) static void begin(void) {
  const char *wanted = getenv("MANTOU_SHIM_DIR"), *path = getenv("MANTOU_SHIM_JOURNAL"), *asked = getenv("MANTOU_SHIM_CONTROL");
  if (wanted == NULL || path == NULL) return;
  snprintf(dir, sizeof dir, "%s/", wanted);
  const char *slow = getenv("MANTOU_SHIM_SYNC_MS");
  if (slow != NULL) sync_us = (useconds_t)atoi(slow) * 1000;
  if (asked != NULL) snprintf(control, sizeof control, "%s", asked);
  journal = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (journal >= 0) dir_length = strlen(dir);
}

/* The part of the path below the directory, or NULL. */
static const char *below(const char *path) {
  if (dir_length == 0 || path == NULL) return NULL;
  if (strncmp(path, dir, dir_length) == 0) return path + dir_length;
  /* The directory itself, for its sync. */
  return strlen(path) == dir_length - 1 && strncmp(path, dir, dir_length - 1) == 0 ? "" : NULL;
}

static const char *path_of(int fd, char *buffer) {
  char link[64];
  if (dir_length == 0) return NULL;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  long length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, PATH_MAX - 1);
  if (length <= 0 || buffer[0] != '/') return NULL;
  buffer[length] = 0;
  return below(buffer);
}

static const char *path_at(int at, const char *path, char *buffer) {
  if (dir_length == 0 || path == NULL) return NULL;
  if (path[0] == '/') return below(path);
  if (at == AT_FDCWD) {
    if (syscall(SYS_getcwd, buffer, PATH_MAX) < 0) return NULL;
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, PATH_MAX - 1);
    if (length <= 0) return NULL;
    buffer[length] = 0;
  }
  size_t length = strlen(buffer);
  snprintf(buffer + length, PATH_MAX - length, "/%s", path);
  return below(buffer);
}

static void put(char kind, const char *path, const char *other, uint64_t offset, const void *data, uint32_t length) {
  uint16_t path_length = (uint16_t)strlen(path), other_length = (uint16_t)strlen(other);
  char head[17];
  head[0] = kind;
  memcpy(head + 1, &path_length, 2);
  memcpy(head + 3, &other_length, 2);
  memcpy(head + 5, &offset, 8);
  memcpy(head + 13, &length, 4);
  struct iovec parts[4] = {{head, sizeof head}, {(void *)path, path_length}, {(void *)other, other_length}, {(void *)data, data == NULL ? 0 : length}};
  if (syscall(SYS_writev, journal, parts, 4) < 0) abort();
}

/* The error that writing (or a sync) is to fail with now, or 0. */
static int failure(int is_sync) {
  if (control[0] == 0) return 0;
  int fd = (int)syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return 0;
  char what = 0;
  long count = syscall(SYS_read, fd, &what, 1);
  syscall(SYS_close, fd);
  if (count != 1) return 0;
  if (what == 'n') return is_sync ? 0 : ENOSPC;
  if (what == 's') return is_sync ? EIO : 0;
  return what == 'i' ? EIO : 0;
}

/* The index of what is shared memory between connections of one database; it is remade after a crash. */
static int is_index(const char *path) {
  size_t length = strlen(path);
  return length > 4 && strcmp(path + length - 4, "-shm") == 0;
}

static ssize_t write_at(int fd, const void *bytes, size_t length, off_t offset, int has_offset) {
  char buffer[PATH_MAX * 2];
  const char *path = path_of(fd, buffer);
#define PASS (has_offset ? syscall(SYS_pwrite64, fd, bytes, length, offset) : raw_write(fd, bytes, length))
  if (path == NULL || is_index(path)) return PASS;
  int error = failure(0);
  if (error != 0) {
    errno = error;
    return -1;
  }
  pthread_mutex_lock(&lock);
  off_t at = offset;
  if (!has_offset) {
    struct stat facts;
    int is_appending = fcntl(fd, F_GETFL) & O_APPEND;
    at = is_appending && fstat(fd, &facts) == 0 ? facts.st_size : lseek(fd, 0, SEEK_CUR);
  }
  ssize_t count = PASS;
  int saved = errno;
  if (count > 0) put('W', path, "", (uint64_t)at, bytes, (uint32_t)count);
  pthread_mutex_unlock(&lock);
  errno = saved;
  return count;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) { return write_at(fd, bytes, length, offset, 1); }
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return write_at(fd, bytes, length, offset, 1); }
ssize_t write(int fd, const void *bytes, size_t length) { return write_at(fd, bytes, length, 0, 0); }

/* Files of the directory are not written this way today; if they ever are, the journal must not miss it. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
  char buffer[PATH_MAX * 2];
  if (path_of(fd, buffer) == NULL) return syscall(SYS_writev, fd, parts, count);
  ssize_t total = 0;
  for (int i = 0; i < count; i++) {
    ssize_t written = write_at(fd, parts[i].iov_base, parts[i].iov_len, 0, 0);
    if (written < 0) return total > 0 ? total : written;
    total += written;
    if ((size_t)written < parts[i].iov_len) break;
  }
  return total;
}

static int sync_file(int fd, long number) {
  char buffer[PATH_MAX * 2];
  const char *path = path_of(fd, buffer);
  if (path == NULL) return (int)syscall(number, fd);
  pthread_mutex_lock(&lock);
  uint64_t sync = ++last_sync;
  put('B', path, "", sync, NULL, 0);
  pthread_mutex_unlock(&lock);
  if (sync_us > 0) usleep(sync_us);
  int error = failure(1);
  int result = error != 0 ? -1 : (int)syscall(number, fd);
  int saved = error != 0 ? error : errno;
  pthread_mutex_lock(&lock);
  put(result == 0 ? 'E' : 'F', path, "", sync, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = saved;
  return result;
}

int fsync(int fd) { return sync_file(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

static int resize(int fd, off_t size) {
  char buffer[PATH_MAX * 2];
  const char *path = path_of(fd, buffer);
  if (path == NULL || is_index(path)) return (int)syscall(SYS_ftruncate, fd, size);
  int error = failure(0);
  struct stat facts;
  if (error == ENOSPC && fstat(fd, &facts) == 0 && size <= facts.st_size) error = 0; /* giving space back is possible */
  if (error != 0) {
    errno = error;
    return -1;
  }
  pthread_mutex_lock(&lock);
  int result = (int)syscall(SYS_ftruncate, fd, size);
  int saved = errno;
  if (result == 0) put('T', path, "", (uint64_t)size, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = saved;
  return result;
}

int ftruncate(int fd, off_t size) { return resize(fd, size); }
int ftruncate64(int fd, off64_t size) { return resize(fd, size); }

/* Only ever makes a file longer: told as a truncation to the new size. */
int fallocate(int fd, int mode, off_t offset, off_t length) {
  char buffer[PATH_MAX * 2];
  const char *path = path_of(fd, buffer);
  if (path == NULL) return (int)syscall(SYS_fallocate, fd, mode, offset, length);
  errno = EOPNOTSUPP;
  return -1;
}

static int open_at(int at, const char *path, int flags, mode_t mode) {
  char buffer[PATH_MAX * 2];
  const char *mine = (flags & O_CREAT) != 0 || (flags & O_TRUNC) != 0 ? path_at(at, path, buffer) : NULL;
  if (mine == NULL || is_index(mine)) return (int)syscall(SYS_openat, at, path, flags, mode);
  pthread_mutex_lock(&lock);
  struct stat facts;
  int is_there = fstatat(at, path, &facts, 0) == 0;
  int error = is_there ? 0 : failure(0);
  int fd = error != 0 ? -1 : (int)syscall(SYS_openat, at, path, flags, mode);
  int saved = error != 0 ? error : errno;
  if (fd >= 0 && !is_there) put('C', mine, "", 0, NULL, 0);
  if (fd >= 0 && is_there && (flags & O_TRUNC) != 0) put('T', mine, "", 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = saved;
  return fd;
}

#define MODE(flags) \
  mode_t mode = 0; \
  if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list rest; \
    va_start(rest, flags); \
    mode = va_arg(rest, mode_t); \
    va_end(rest); \
  }

int open(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return open_at(at, path, flags, mode); }

static int remove_at(int at, const char *path, int flags) {
  char buffer[PATH_MAX * 2];
  const char *mine = path_at(at, path, buffer);
  if (mine == NULL || is_index(mine)) return (int)syscall(SYS_unlinkat, at, path, flags);
  pthread_mutex_lock(&lock);
  int result = (int)syscall(SYS_unlinkat, at, path, flags);
  int saved = errno;
  if (result == 0 && (flags & AT_REMOVEDIR) == 0) put('U', mine, "", 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = saved;
  return result;
}

int unlink(const char *path) { return remove_at(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return remove_at(at, path, flags); }

static int move(int from, const char *path, int to, const char *other) {
  char buffer[PATH_MAX * 2], other_buffer[PATH_MAX * 2];
  const char *mine = path_at(from, path, buffer), *theirs = path_at(to, other, other_buffer);
  if (mine == NULL || theirs == NULL) return (int)syscall(SYS_renameat, from, path, to, other);
  pthread_mutex_lock(&lock);
  int result = (int)syscall(SYS_renameat, from, path, to, other);
  int saved = errno;
  if (result == 0) put('R', mine, theirs, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = saved;
  return result;
}

int rename(const char *path, const char *other) { return move(AT_FDCWD, path, AT_FDCWD, other); }
int renameat(int from, const char *path, int to, const char *other) { return move(from, path, to, other); }

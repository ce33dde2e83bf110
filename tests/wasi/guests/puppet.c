/* A puppet: whoever holds its strings calls any function of preview 1 with any words, and sees and sets its memory.
 *
 * It reads orders on standard input, 80 bytes each: a number and nine words, all of 64 bits; it answers each with
 * 8 bytes on standard output. Orders 0 to 44 call the function of that place in the table below, in the order of their
 * names; 100 answers where its spare memory is; 101 takes `word 1` bytes for address `word 0`; 102 gives as many.
 */

#include <stdint.h>

#define NAMED(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))

typedef uint32_t i;
typedef uint64_t l;

enum { SPARE = 1 << 20 };

static uint8_t spare[SPARE] __attribute__((aligned(16)));
static l order[10];

extern i args_get_(i, i) NAMED(args_get);
extern i args_sizes_get_(i, i) NAMED(args_sizes_get);
extern i clock_res_get_(i, i) NAMED(clock_res_get);
extern i clock_time_get_(i, l, i) NAMED(clock_time_get);
extern i environ_get_(i, i) NAMED(environ_get);
extern i environ_sizes_get_(i, i) NAMED(environ_sizes_get);
extern i fd_advise_(i, l, l, i) NAMED(fd_advise);
extern i fd_allocate_(i, l, l) NAMED(fd_allocate);
extern i fd_close_(i) NAMED(fd_close);
extern i fd_datasync_(i) NAMED(fd_datasync);
extern i fd_fdstat_get_(i, i) NAMED(fd_fdstat_get);
extern i fd_fdstat_set_flags_(i, i) NAMED(fd_fdstat_set_flags);
extern i fd_fdstat_set_rights_(i, l, l) NAMED(fd_fdstat_set_rights);
extern i fd_filestat_get_(i, i) NAMED(fd_filestat_get);
extern i fd_filestat_set_size_(i, l) NAMED(fd_filestat_set_size);
extern i fd_filestat_set_times_(i, l, l, i) NAMED(fd_filestat_set_times);
extern i fd_pread_(i, i, i, l, i) NAMED(fd_pread);
extern i fd_prestat_dir_name_(i, i, i) NAMED(fd_prestat_dir_name);
extern i fd_prestat_get_(i, i) NAMED(fd_prestat_get);
extern i fd_pwrite_(i, i, i, l, i) NAMED(fd_pwrite);
extern i fd_read_(i, i, i, i) NAMED(fd_read);
extern i fd_readdir_(i, i, i, l, i) NAMED(fd_readdir);
extern i fd_renumber_(i, i) NAMED(fd_renumber);
extern i fd_seek_(i, l, i, i) NAMED(fd_seek);
extern i fd_sync_(i) NAMED(fd_sync);
extern i fd_tell_(i, i) NAMED(fd_tell);
extern i fd_write_(i, i, i, i) NAMED(fd_write);
extern i path_create_directory_(i, i, i) NAMED(path_create_directory);
extern i path_filestat_get_(i, i, i, i, i) NAMED(path_filestat_get);
extern i path_filestat_set_times_(i, i, i, i, l, l, i) NAMED(path_filestat_set_times);
extern i path_link_(i, i, i, i, i, i, i) NAMED(path_link);
extern i path_open_(i, i, i, i, i, l, l, i, i) NAMED(path_open);
extern i path_readlink_(i, i, i, i, i, i) NAMED(path_readlink);
extern i path_remove_directory_(i, i, i) NAMED(path_remove_directory);
extern i path_rename_(i, i, i, i, i, i) NAMED(path_rename);
extern i path_symlink_(i, i, i, i, i) NAMED(path_symlink);
extern i path_unlink_file_(i, i, i) NAMED(path_unlink_file);
extern i poll_oneoff_(i, i, i, i) NAMED(poll_oneoff);
extern i proc_raise_(i) NAMED(proc_raise);
extern i random_get_(i, i) NAMED(random_get);
extern i sched_yield_(void) NAMED(sched_yield);
extern i sock_accept_(i, i, i) NAMED(sock_accept);
extern i sock_recv_(i, i, i, i, i, i) NAMED(sock_recv);
extern i sock_send_(i, i, i, i, i) NAMED(sock_send);
extern i sock_shutdown_(i, i) NAMED(sock_shutdown);

static void whole(i fd, uint8_t *at, i left, i (*move)(i, i, i, i)) {
    while (left > 0) {
        i vector[2] = {(i)(uintptr_t)at, left};
        i done = 0;
        if (move(fd, (i)(uintptr_t)vector, 1, (i)(uintptr_t)&done) != 0 || done == 0) {
            __builtin_trap();
        }
        at += done;
        left -= done;
    }
}

static l called(const l *w) {
    switch ((i)order[0]) {
    case 0: return args_get_((i)w[0], (i)w[1]);
    case 1: return args_sizes_get_((i)w[0], (i)w[1]);
    case 2: return clock_res_get_((i)w[0], (i)w[1]);
    case 3: return clock_time_get_((i)w[0], w[1], (i)w[2]);
    case 4: return environ_get_((i)w[0], (i)w[1]);
    case 5: return environ_sizes_get_((i)w[0], (i)w[1]);
    case 6: return fd_advise_((i)w[0], w[1], w[2], (i)w[3]);
    case 7: return fd_allocate_((i)w[0], w[1], w[2]);
    case 8: return fd_close_((i)w[0]);
    case 9: return fd_datasync_((i)w[0]);
    case 10: return fd_fdstat_get_((i)w[0], (i)w[1]);
    case 11: return fd_fdstat_set_flags_((i)w[0], (i)w[1]);
    case 12: return fd_fdstat_set_rights_((i)w[0], w[1], w[2]);
    case 13: return fd_filestat_get_((i)w[0], (i)w[1]);
    case 14: return fd_filestat_set_size_((i)w[0], w[1]);
    case 15: return fd_filestat_set_times_((i)w[0], w[1], w[2], (i)w[3]);
    case 16: return fd_pread_((i)w[0], (i)w[1], (i)w[2], w[3], (i)w[4]);
    case 17: return fd_prestat_dir_name_((i)w[0], (i)w[1], (i)w[2]);
    case 18: return fd_prestat_get_((i)w[0], (i)w[1]);
    case 19: return fd_pwrite_((i)w[0], (i)w[1], (i)w[2], w[3], (i)w[4]);
    case 20: return fd_read_((i)w[0], (i)w[1], (i)w[2], (i)w[3]);
    case 21: return fd_readdir_((i)w[0], (i)w[1], (i)w[2], w[3], (i)w[4]);
    case 22: return fd_renumber_((i)w[0], (i)w[1]);
    case 23: return fd_seek_((i)w[0], w[1], (i)w[2], (i)w[3]);
    case 24: return fd_sync_((i)w[0]);
    case 25: return fd_tell_((i)w[0], (i)w[1]);
    case 26: return fd_write_((i)w[0], (i)w[1], (i)w[2], (i)w[3]);
    case 27: return path_create_directory_((i)w[0], (i)w[1], (i)w[2]);
    case 28: return path_filestat_get_((i)w[0], (i)w[1], (i)w[2], (i)w[3], (i)w[4]);
    case 29: return path_filestat_set_times_((i)w[0], (i)w[1], (i)w[2], (i)w[3], w[4], w[5], (i)w[6]);
    case 30: return path_link_((i)w[0], (i)w[1], (i)w[2], (i)w[3], (i)w[4], (i)w[5], (i)w[6]);
    case 31: return path_open_((i)w[0], (i)w[1], (i)w[2], (i)w[3], (i)w[4], w[5], w[6], (i)w[7], (i)w[8]);
    case 32: return path_readlink_((i)w[0], (i)w[1], (i)w[2], (i)w[3], (i)w[4], (i)w[5]);
    case 33: return path_remove_directory_((i)w[0], (i)w[1], (i)w[2]);
    case 34: return path_rename_((i)w[0], (i)w[1], (i)w[2], (i)w[3], (i)w[4], (i)w[5]);
    case 35: return path_symlink_((i)w[0], (i)w[1], (i)w[2], (i)w[3], (i)w[4]);
    case 36: return path_unlink_file_((i)w[0], (i)w[1], (i)w[2]);
    case 37: return poll_oneoff_((i)w[0], (i)w[1], (i)w[2], (i)w[3]);
    case 38: return proc_raise_((i)w[0]);
    case 39: return random_get_((i)w[0], (i)w[1]);
    case 40: return sched_yield_();
    case 41: return sock_accept_((i)w[0], (i)w[1], (i)w[2]);
    case 42: return sock_recv_((i)w[0], (i)w[1], (i)w[2], (i)w[3], (i)w[4], (i)w[5]);
    case 43: return sock_send_((i)w[0], (i)w[1], (i)w[2], (i)w[3], (i)w[4]);
    case 44: return sock_shutdown_((i)w[0], (i)w[1]);
    case 100: return (uintptr_t)spare;
    default: __builtin_trap();
    }
}

int main(void) {
    for (;;) {
        i vector[2] = {(i)(uintptr_t)order, sizeof order};
        i done = 0;
        if (fd_read_(0, (i)(uintptr_t)vector, 1, (i)(uintptr_t)&done) != 0 || done == 0) {
            return 0;
        }
        whole(0, (uint8_t *)order + done, (i)sizeof order - done, fd_read_);
        const l *w = order + 1;
        if (order[0] == 101) {
            whole(0, (uint8_t *)(uintptr_t)w[0], (i)w[1], fd_read_);
        } else if (order[0] == 102) {
            whole(1, (uint8_t *)(uintptr_t)w[0], (i)w[1], fd_write_);
        } else {
            l answer = called(w);
            whole(1, (uint8_t *)&answer, sizeof answer, fd_write_);
        }
    }
}

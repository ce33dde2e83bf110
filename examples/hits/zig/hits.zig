//! hits: counts how often each page was asked for. The count is a key; nothing but the standard library's files.
//!
//!     GET /hits/:page   how often that was, this time included
//!
//! Two runs may count at once. Whoever creates the file below `.lock` has the lock of that key, until the file is
//! closed or the run ends, however it ends.
const std = @import("std");
const Dir = std.Io.Dir;

const store = "beta/kv/local/";

pub fn main(init: std.process.Init) !void {
    const io = init.io;
    const arena = init.arena.allocator();
    const root = Dir.cwd(); // "/": what a program is given is all below it

    const page = try root.readFileAlloc(io, "request/params/page", arena, .limited(1024));
    const key = try std.mem.concat(arena, u8, &.{ store, page });

    const lock = try take(io, root, try std.mem.concat(arena, u8, &.{ store, ".lock/", page }));
    defer lock.close(io);
    const before = root.readFileAlloc(io, key, arena, .limited(64)) catch |err| switch (err) {
        error.FileNotFound => "0",
        else => return err,
    };
    const count = try std.fmt.allocPrint(arena, "{d}\n", .{try std.fmt.parseInt(u64, std.mem.trim(u8, before, "\n"), 10) + 1});
    try keep(io, root, key, count);
    try root.writeFile(io, .{ .sub_path = "response/body", .data = count });
}

/// Not `writeFile`: what goes wrong when a file is closed, Zig does not tell. What was synchronized is on disk.
fn keep(io: std.Io, root: Dir, key: []const u8, value: []const u8) !void {
    const file = try root.createFile(io, key, .{});
    defer file.close(io);
    try file.writeStreamingAll(io, value);
    try file.sync(io);
}

fn take(io: std.Io, root: Dir, path: []const u8) !std.Io.File {
    while (true) {
        return root.createFile(io, path, .{ .exclusive = true }) catch |err| switch (err) {
            error.PathAlreadyExists => {
                try io.sleep(.fromMilliseconds(1), .awake);
                continue;
            },
            else => return err,
        };
    }
}

module daemon

go 1.24

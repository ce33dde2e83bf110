module fetch-proxy

go 1.24

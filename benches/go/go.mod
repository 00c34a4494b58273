module crore/benches/go

go 1.19

// Go, as a program that `peers` starts: goroutines on one processor. The
// command line is described in benches/peers/src/subject.rs.
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const buffer = 1280
const capacity = 128

func main() {
	runtime.GOMAXPROCS(1)
	arguments := os.Args[1:]
	switch {
	case len(arguments) == 5 && arguments[0] == "work" && arguments[1] == "go":
		count, operations := number(arguments[3]), number(arguments[4])
		work(arguments[2], count, operations)
	case len(arguments) == 2 && arguments[0] == "serve" && arguments[1] == "go":
		serve()
	default:
		fail("usage: work go WORK COUNT OPERATIONS | serve go")
	}
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, "error:", why)
	os.Exit(2)
}

func check(right bool) {
	if !right {
		panic("the work was not done")
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		fail(text + " is not a number of at least 1")
	}
	return n
}

func work(name string, count, n int) {
	var took time.Duration
	switch name {
	case "yield":
		took = yields(count, n/count)
	case "spawn-join":
		took = spawnJoin(n)
	case "spawn-batch":
		took = spawnBatch(count, n/count)
	case "wake":
		took = wake(n)
	case "ping-pong":
		took = pingPong(n / 2)
	case "stream":
		took = stream(n)
	case "timer-cancel":
		took = timerCancel(n)
	case "sleep":
		took = sleepers(count)
	case "parked":
		fmt.Println(float64(parked(count)) / float64(count))
		return
	default:
		fail("no work is called " + name)
	}
	fmt.Println(float64(took.Nanoseconds()) / float64(n))
}

// The time is taken from when the last one has begun until the last has ended.
func yields(tasks, rounds int) time.Duration {
	var begun, ended int64
	var begin, end time.Duration
	var done sync.WaitGroup
	all := int64(tasks)
	done.Add(tasks)
	for i := 0; i < tasks; i++ {
		go func() {
			if atomic.AddInt64(&begun, 1) == all {
				begin = now()
			}
			for atomic.LoadInt64(&begun) < all {
				runtime.Gosched()
			}
			for round := 1; round < rounds; round++ {
				runtime.Gosched()
			}
			if atomic.AddInt64(&ended, 1) == all {
				end = now()
			}
			done.Done()
		}()
	}
	done.Wait()
	return end - begin
}

// A result comes through a channel: goroutines have no handles.
func spawnJoin(n int) time.Duration {
	start, sum := now(), 0
	for i := 0; i < n; i++ {
		result := make(chan int, 1)
		go func(i int) { result <- i }(i)
		sum += <-result
	}
	took := now() - start
	check(sum == n*(n-1)/2)
	return took
}

func spawnBatch(size, batches int) time.Duration {
	results := make([]chan int, size)
	batch := func() (sum int) {
		for i := range results {
			result := make(chan int, 1)
			results[i] = result
			go func(i int) { result <- i }(i)
		}
		for _, result := range results {
			sum += <-result
		}
		return
	}
	batch()
	start, sum := now(), 0
	for i := 0; i < batches; i++ {
		sum += batch()
	}
	took := now() - start
	check(sum == batches*(size*(size-1)/2))
	return took
}

// Channels of one place are what Go has for park and unpark.
func wake(n int) time.Duration {
	ping, pong := make(chan struct{}, 1), make(chan struct{}, 1)
	start := now()
	go func() {
		for i := 0; i < n; i++ {
			<-pong
			ping <- struct{}{}
		}
	}()
	for i := 0; i < n; i++ {
		pong <- struct{}{}
		<-ping
	}
	return now() - start
}

func timerCancel(n int) time.Duration {
	ping, pong := make(chan struct{}, 1), make(chan struct{}, 1)
	wait := func(c chan struct{}, timer *time.Timer) {
		timer.Reset(time.Hour)
		select {
		case <-c:
			timer.Stop()
		case <-timer.C:
			panic("an hour has not passed")
		}
	}
	newTimer := func() *time.Timer {
		timer := time.NewTimer(time.Hour)
		timer.Stop()
		return timer
	}
	start := now()
	go func() {
		timer := newTimer()
		for i := 0; i < n; i++ {
			wait(pong, timer)
			ping <- struct{}{}
		}
	}()
	timer := newTimer()
	for i := 0; i < n; i++ {
		pong <- struct{}{}
		wait(ping, timer)
	}
	return now() - start
}

func pingPong(n int) time.Duration {
	to, back := make(chan int, 1), make(chan int, 1)
	start := now()
	go func() {
		for i := 0; i < n; i++ {
			back <- <-to + 1
		}
	}()
	for i := 0; i < n; i++ {
		to <- i
		check(<-back == i+1)
	}
	return now() - start
}

func stream(n int) time.Duration {
	to := make(chan int, capacity)
	start := now()
	go func() {
		for i := 0; i < n; i++ {
			to <- i
		}
	}()
	sum := 0
	for i := 0; i < n; i++ {
		sum += <-to
	}
	took := now() - start
	check(sum == n*(n-1)/2)
	return took
}

func sleepers(n int) time.Duration {
	once := func() {
		begin := time.Now()
		var done sync.WaitGroup
		var awake int64
		done.Add(n)
		for i := 0; i < n; i++ {
			go func(i int) {
				at := begin.Add(time.Duration(10+i*7%20) * time.Millisecond)
				time.Sleep(time.Until(at))
				if !time.Now().Before(at) {
					atomic.AddInt64(&awake, 1)
				}
				done.Done()
			}(i)
		}
		done.Wait()
		check(awake == int64(n))
	}
	for i := 0; i < 5; i++ { // WARM_UPS of benches/peers/src/lib.rs
		once()
	}
	start := now()
	once()
	return now() - start
}

// Processor time so far, of all threads.
func now() time.Duration {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func parked(n int) int {
	var started int64
	wait := make(chan struct{})
	debug.FreeOSMemory()
	before := memory()
	for i := 0; i < n; i++ {
		go func() {
			atomic.AddInt64(&started, 1)
			<-wait
		}()
	}
	for atomic.LoadInt64(&started) < int64(n) {
		runtime.Gosched()
	}
	debug.FreeOSMemory()
	return memory() - before
}

// Resident bytes and those of the page tables.
func memory() (bytes int) {
	status, err := os.ReadFile("/proc/self/status")
	check(err == nil)
	for _, line := range strings.Split(string(status), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 3 && (fields[0] == "VmRSS:" || fields[0] == "VmPTE:") {
			bytes += 1024 * number(fields[1])
		}
	}
	return
}

func serve() {
	var files syscall.Rlimit
	check(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil)
	files.Cur = files.Max
	check(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files) == nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err == nil)
	fmt.Println(os.Getpid(), listener.Addr())
	for {
		stream, err := listener.Accept() // sets TCP_NODELAY
		check(err == nil)
		go echo(stream)
	}
}

func echo(stream net.Conn) {
	defer stream.Close()
	bytes := make([]byte, buffer)
	for {
		count, err := stream.Read(bytes)
		if err != nil {
			return
		}
		if _, err := stream.Write(bytes[:count]); err != nil {
			return
		}
	}
}

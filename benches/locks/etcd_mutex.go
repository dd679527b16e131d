// Go's concurrency.Mutex at work: `each WORKERS SECONDS` or `one WORKERS SECONDS`, answered with cycles a second.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(text string) int {
	number, err := strconv.Atoi(text)
	check(err)
	return number
}

func main() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Args[1]}, DialTimeout: 10 * time.Second})
	check(err)
	// Each worker keeps its session.
	var sessions []*concurrency.Session
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		workers, seconds := number(words[1]), number(words[2])
		for len(sessions) < workers {
			session, err := concurrency.NewSession(client, concurrency.WithTTL(60))
			check(err)
			sessions = append(sessions, session)
		}
		var cycles int64
		var all sync.WaitGroup
		begun := time.Now()
		for worker := 0; worker < workers; worker++ {
			prefix := "fencegate/locks/bench0"
			if words[0] == "each" {
				prefix = fmt.Sprintf("fencegate/locks/bench%d", worker)
			}
			mutex := concurrency.NewMutex(sessions[worker], prefix)
			all.Add(1)
			go func() {
				defer all.Done()
				for time.Since(begun) < time.Duration(seconds)*time.Second {
					check(mutex.Lock(context.Background()))
					check(mutex.Unlock(context.Background()))
					atomic.AddInt64(&cycles, 1)
				}
			}()
		}
		all.Wait()
		fmt.Println(float64(cycles) / time.Since(begun).Seconds())
	}
}

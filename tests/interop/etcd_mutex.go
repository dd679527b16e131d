// Go's concurrency.Mutex, told line by line what to do: `acquire PREFIX SECONDS_TO_WAIT`, `release`, `sequence`.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
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

func main() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Args[1]}, DialTimeout: 10 * time.Second})
	check(err)
	session, err := concurrency.NewSession(client, concurrency.WithTTL(60))
	check(err)
	var mutex *concurrency.Mutex
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "acquire":
			mutex = concurrency.NewMutex(session, words[1])
			seconds, err := strconv.Atoi(words[2])
			check(err)
			wait := time.Duration(seconds) * time.Second
			if seconds == 0 {
				// This Mutex cannot try once: it gives up when it has surely seen who holds the lock.
				wait = 500 * time.Millisecond
			}
			limited, cancel := context.WithTimeout(context.Background(), wait)
			err = mutex.Lock(limited)
			cancel()
			switch err {
			case nil:
				fmt.Println("acquired")
			case context.DeadlineExceeded:
				fmt.Println("busy")
			default:
				check(err)
			}
		case "sequence":
			key, err := client.Get(context.Background(), mutex.Key())
			check(err)
			fmt.Println(key.Kvs[0].CreateRevision)
		default:
			check(mutex.Unlock(context.Background()))
			fmt.Println("released")
		}
	}
}

// go-redis behind Sentinels: a write every 20 ms, as an application would make it.
//
// Arguments: the group, then HOST:PORT of each Sentinel. A line for each write: `ok NUMBER` or `error WORDS`.
package main

import (
	"fmt"
	"os"
	"time"

	"gopkg.in/redis.v5"
)

func main() {
	primary := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName:    os.Args[1],
		SentinelAddrs: os.Args[2:],
		DialTimeout:   500 * time.Millisecond,
		ReadTimeout:   500 * time.Millisecond,
		WriteTimeout:  500 * time.Millisecond,
	})
	end := time.Now().Add(90 * time.Second)
	for number := 1; time.Now().Before(end); number++ {
		err := primary.Set(fmt.Sprintf("client:%d", number), number, 0).Err()
		if err == nil {
			fmt.Println("ok", number)
		} else {
			fmt.Println("error", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

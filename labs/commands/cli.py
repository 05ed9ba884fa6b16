def main() -> None:
    raise SystemExit("hello")


if __name__ == "__main__":
    main()

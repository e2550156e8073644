import {
  elementScroll,
  observeElementOffset,
  observeElementRect,
  Virtualizer,
  type VirtualItem,
} from "@tanstack/virtual-core";
import { Component, type ComponentChildren, createRef } from "preact";

interface Props {
  count: number;
  rowHeight: number;
  /** Draws a row at a distance from the top, in pixels. */
  row: (index: number, top: number) => ComponentChildren;
  /** Drawn even while it is out of view, because it has the focus. */
  pinned?: number;
  class?: string;
  header?: ComponentChildren;
  /** Keeps the end in view while rows are added, if it is in view. */
  stick?: boolean;
  attributes?: Record<string, unknown>;
  /** Refers to the list, to scroll it: Preact passes `ref` to a component like any property. */
  handle?: { current: VirtualList | null };
}

/** A list that has only the rows in view in the document. */
export class VirtualList extends Component<Props> {
  private readonly scroller = createRef<HTMLDivElement>();
  private virtualizer: Virtualizer<HTMLDivElement, Element> | null = null;
  private unmount: (() => void) | undefined;
  private atEnd = true;

  private options() {
    return {
      count: this.props.count,
      getScrollElement: () => this.scroller.current,
      estimateSize: () => this.props.rowHeight,
      overscan: 6,
      initialOffset: () => this.scroller.current?.scrollTop ?? 0,
      scrollToFn: elementScroll,
      observeElementRect,
      observeElementOffset,
      onChange: () => this.setState({}),
    } as const;
  }

  override componentDidMount(): void {
    if (this.props.handle) this.props.handle.current = this;
    const element = this.scroller.current;
    if (this.props.stick && element) element.scrollTop = element.scrollHeight;
    this.virtualizer = new Virtualizer<HTMLDivElement, Element>(this.options());
    this.unmount = this.virtualizer._didMount();
    this.virtualizer._willUpdate();
    this.setState({});
  }

  override componentWillUnmount(): void {
    this.unmount?.();
    if (this.props.handle) this.props.handle.current = null;
  }

  override componentDidUpdate(previous: Props): void {
    this.virtualizer?._willUpdate();
    const element = this.scroller.current;
    if (this.props.stick && element && this.props.count !== previous.count && this.atEnd) element.scrollTop = element.scrollHeight;
  }

  /** Scrolls a row into view: as little as possible, or to the middle if it is far away. */
  scrollTo(index: number): void {
    const element = this.scroller.current;
    const rows = element?.querySelector<HTMLElement>(".virtual-rows");
    if (!element || !rows) return;
    const { rowHeight } = this.props;
    // The header stays at the top.
    const height = element.clientHeight - rows.offsetTop;
    const top = index * rowHeight;
    const above = element.scrollTop - top;
    const below = top + rowHeight - element.scrollTop - height;
    if (above <= 0 && below <= 0) return;
    if (Math.max(above, below) > height) element.scrollTop = top - (height - rowHeight) / 2;
    else element.scrollTop = above > 0 ? top : top + rowHeight - height;
  }

  get element(): HTMLDivElement | null {
    return this.scroller.current;
  }

  override render({ count, rowHeight, row, pinned, header, attributes, ...rest }: Props) {
    let items: VirtualItem[] = [];
    if (this.virtualizer) {
      this.virtualizer.setOptions(this.options());
      items = this.virtualizer.getVirtualItems();
    }
    const pinnedOut = pinned !== undefined && pinned >= 0 && pinned < count && !items.some((item) => item.index === pinned);
    return (
      <div
        class={`virtual ${rest.class ?? ""}`}
        ref={this.scroller}
        onScroll={() => {
          const element = this.scroller.current;
          if (element) this.atEnd = element.scrollTop + element.clientHeight >= element.scrollHeight - rowHeight;
        }}
        {...attributes}
      >
        {header}
        <div class="virtual-rows" role="presentation" style={{ height: `${count * rowHeight}px` }}>
          {items.map((item) => row(item.index, item.start))}
          {pinnedOut && row(pinned, pinned * rowHeight)}
        </div>
      </div>
    );
  }
}
